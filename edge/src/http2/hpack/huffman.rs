//! The code for strings of RFC 7541, appendix B.
//!
//! It is canonical: codes of one length are numbers in a row, in the order of their symbols, behind all shorter ones. So the
//! lengths say all. A code is found by its length: the first for which what comes lies below the end of its codes.

use super::Broken;

/// Bits of each symbol's code; the last one is the end of a string, which never comes.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// What [`LENGTHS`] say.
struct Code {
    /// The code of each symbol.
    codes: [u32; SYMBOLS],
    /// The symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length, where its symbols begin among those.
    starts: [usize; LONGEST + 1],
    /// For each length, its first code.
    firsts: [u32; LONGEST + 1],
    /// For each length, the end of its codes, as the first bits of 32.
    ends: [u64; LONGEST + 1],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut made = Code {
        codes: [0; SYMBOLS],
        symbols: [0; SYMBOLS],
        starts: [0; LONGEST + 1],
        firsts: [0; LONGEST + 1],
        ends: [0; LONGEST + 1],
    };
    let (mut length, mut next, mut known) = (SHORTEST, 0_u32, 0);
    while length <= LONGEST {
        made.starts[length] = known;
        made.firsts[length] = next;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                made.codes[symbol] = next;
                #[allow(clippy::cast_possible_truncation, reason = "there are 257 symbols")]
                {
                    made.symbols[known] = symbol as u16;
                }
                next += 1;
                known += 1;
            }
            symbol += 1;
        }
        made.ends[length] = (next as u64) << (32 - length);
        next <<= 1;
        length += 1;
    }
    made
}

/// Appends what `bytes` stand for.
pub(crate) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    // What was read and is not decoded: the first `count` bits, zeros behind them.
    let (mut bits, mut count) = (0_u64, 0_usize);
    let mut bytes = bytes.iter();
    loop {
        while count <= 56
            && let Some(byte) = bytes.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let begin = bits >> 32;
        let mut length = SHORTEST;
        while begin >= CODE.ends[length] {
            length += 1;
        }
        if length > count {
            // What is left fills the last byte, with the first bits of the end's code: ones.
            let is_padding = count < 8 && bits == !(u64::MAX >> count);
            return if is_padding { Ok(()) } else { Err(Broken) };
        }
        let nth = (begin >> (32 - length)) - u64::from(CODE.firsts[length]);
        let symbol = usize::try_from(nth).ok().and_then(|nth| CODE.symbols.get(CODE.starts[length] + nth));
        match symbol.and_then(|symbol| u8::try_from(*symbol).ok()) {
            Some(byte) => out.push(byte),
            None => return Err(Broken),
        }
        bits <<= length;
        count -= length;
    }
}

/// How many bytes stand for `bytes`.
pub(crate) fn encoded_length(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// Appends what stands for `bytes`.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0_u8);
    for byte in bytes {
        let length = LENGTHS[usize::from(*byte)];
        bits = bits << length | u64::from(CODE.codes[usize::from(*byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count).to_le_bytes()[0]);
        }
    }
    if count > 0 {
        // With the first bits of the end's code, which are ones.
        out.push((bits << (8 - count) | 0xff >> count).to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn the_code_is_that_of_the_specification() {
        // Of appendix B, some of each end; and of appendix C.4 and C.6, strings.
        for (symbol, code, length) in
            [('0', 0, 5), (' ', 0x14, 6), ('~', 0x1ffd, 13), ('\n', 0x3fff_fffc, 30), ('\u{ff}', 0x3ff_ffee, 26)]
        {
            let symbol = usize::try_from(u32::from(symbol)).unwrap();
            assert_eq!((CODE.codes[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
        assert_eq!(CODE.codes[SYMBOLS - 1], 0x3fff_ffff);
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            ("", ""),
        ] {
            let mut encoded = Vec::new();
            encode(text.as_bytes(), &mut encoded);
            let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((hex.as_str(), encoded.len()), (code, encoded_length(text.as_bytes())), "{text}");
            assert_eq!(decoded(&encoded).as_deref(), Ok(text.as_bytes()));
        }
    }

    #[test]
    fn what_fills_the_last_byte_is_ones_and_less_than_a_byte() {
        // '0' is five zeros.
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Ok(&b"0"[..]));
        for broken in [&[0b0000_0110][..], &[0b0000_0000], &[0b0000_0111, 0xff], &[0xff], &[0xff; 4], &[0xff; 9]] {
            assert_eq!(decoded(broken), Err(Broken), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_string_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut encoded = Vec::new();
            encode(&bytes, &mut encoded);
            prop_assert_eq!(encoded.len(), encoded_length(&bytes));
            prop_assert_eq!(decoded(&encoded), Ok(bytes));
        }

        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = decoded(&bytes) {
                let mut again = Vec::new();
                encode(&text, &mut again);
                prop_assert_eq!(again, bytes, "there is one way to write it");
            }
        }
    }
}
