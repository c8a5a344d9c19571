//! From a block to fields (RFC 7541 sections 3 and 6).

use std::collections::VecDeque;

use bytes::Bytes;

use super::field::{Field, Name};
use super::static_table::{ENTRIES, LENGTH};
use super::{Broken, OVERHEAD, TABLE, huffman};

/// A field of a table.
#[derive(Debug)]
pub(crate) struct Entry {
    name: Name,
    field: Field,
    name_length: usize,
    /// Bytes that it counts for, of the table or of a header list.
    size: usize,
}

impl Entry {
    pub(crate) fn new(name: &[u8], value: Bytes) -> Self {
        Self::of(Name::parse(name), name.len(), value)
    }

    #[cfg(test)]
    pub(crate) fn field(&self) -> &Field {
        &self.field
    }

    fn of(name: Name, name_length: usize, value: Bytes) -> Self {
        let size = name_length + value.len() + OVERHEAD;
        Self { field: name.with(value), name, name_length, size }
    }
}

/// What a connection's client has sent, as far as it can name it again.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The last one is the oldest, and leaves first.
    entries: VecDeque<Entry>,
    size: usize,
    /// What the client says that the table may take; at most [`TABLE`].
    limit: usize,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE }
    }

    /// Gives each field of a block to `take`, with the bytes that it counts for in a header list (RFC 9113 section 6.5.2).
    pub(crate) fn decode(&mut self, block: &[u8], mut take: impl FnMut(&Field, usize)) -> Result<(), Broken> {
        let mut block = Reader(block);
        let mut is_begin = true;
        while let Some(first) = block.0.first() {
            if *first & 0x80 != 0 {
                let entry = self.entry(block.number(7)?)?;
                take(&entry.field, entry.size);
            } else if *first & 0xc0 == 0x40 {
                let entry = self.literal(&mut block, 6)?;
                take(&entry.field, entry.size);
                self.insert(entry);
            } else if *first & 0xe0 == 0x20 {
                let limit = block.number(5)?;
                if !is_begin || limit > TABLE {
                    return Err(Broken);
                }
                self.limit = limit;
                self.evict();
                continue;
            } else {
                let entry = self.literal(&mut block, 4)?;
                take(&entry.field, entry.size);
            }
            is_begin = false;
        }
        Ok(())
    }

    fn entry(&self, number: usize) -> Result<&Entry, Broken> {
        let entry = match number.checked_sub(LENGTH + 1) {
            None => ENTRIES.get(number.checked_sub(1).ok_or(Broken)?),
            Some(number) => self.entries.get(number),
        };
        entry.ok_or(Broken)
    }

    fn literal(&self, block: &mut Reader<'_>, prefix: u32) -> Result<Entry, Broken> {
        let (name, name_length) = match block.number(prefix)? {
            0 => {
                let name = block.string()?;
                (Name::parse(&name), name.len())
            }
            number => {
                let entry = self.entry(number)?;
                (entry.name.clone(), entry.name_length)
            }
        };
        Ok(Entry::of(name, name_length, block.string()?))
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size;
        self.entries.push_front(entry);
        // One that is larger than the table empties it, itself included (RFC 7541 section 4.4).
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

/// What is left of a block.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number whose first bits are the last `prefix` ones of a byte (RFC 7541 section 5.1). None is larger than what four more
    /// bytes say, which is beyond the length of anything.
    fn number(&mut self, prefix: u32) -> Result<usize, Broken> {
        let most = (1_usize << prefix) - 1;
        let first = usize::from(self.byte()?) & most;
        if first < most {
            return Ok(first);
        }
        let mut number = most;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken)
    }

    fn string(&mut self) -> Result<Bytes, Broken> {
        let is_packed = self.0.first().ok_or(Broken)? & 0x80 != 0;
        let length = self.number(7)?;
        let (string, rest): (&'a [u8], _) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        if !is_packed {
            return Ok(Bytes::copy_from_slice(string));
        }
        // The shortest code has five bits.
        let mut text = Vec::with_capacity(string.len() * 8 / 5);
        huffman::decode(string, &mut text)?;
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<_> = digits.bytes().filter(|digit| *digit != b' ').collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Broken> {
        let mut fields = Vec::new();
        let take = |field: &Field, _| {
            fields.push(match field {
                Field::Authority(value) => format!(":authority: {value}"),
                Field::Method(value) => format!(":method: {value}"),
                Field::Path(value) => format!(":path: {value}"),
                Field::Scheme(value) => format!(":scheme: {value}"),
                Field::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
                Field::Malformed => "malformed".to_owned(),
            });
        };
        decoder.decode(block, take).map(|()| fields)
    }

    #[test]
    fn requests_of_the_specification() {
        // RFC 7541, appendices C.3 and C.4: the same three requests, without the code for strings and with it.
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let packed = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, packed] {
            let mut decoder = Decoder::new();
            let wants = [
                (vec![":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"], 57),
                (
                    vec![
                        ":method: GET",
                        ":scheme: http",
                        ":path: /",
                        ":authority: www.example.com",
                        "cache-control: no-cache",
                    ],
                    110,
                ),
                (
                    vec![
                        ":method: GET",
                        ":scheme: https",
                        ":path: /index.html",
                        ":authority: www.example.com",
                        "custom-key: custom-value",
                    ],
                    164,
                ),
            ];
            for (block, (fields, size)) in blocks.into_iter().zip(wants) {
                assert_eq!(decoded(&mut decoder, &hex(block)).unwrap(), fields);
                assert_eq!(decoder.size, size);
            }
        }
    }

    #[test]
    fn a_table_keeps_what_there_is_room_for() {
        let mut decoder = Decoder::new();
        let field = |value: u8, length: usize| [&[0x40, 1, b'a', 100][..], &vec![value; length]].concat();
        for value in 0..200_u8 {
            assert_eq!(decoded(&mut decoder, &field(b'a' + value % 26, 100)).unwrap().len(), 1);
            assert!(decoder.size <= TABLE);
        }
        assert_eq!((decoder.entries.len(), decoder.size), (30, 30 * 133));
        // The client may have less of a table, and it says so before anything else.
        assert_eq!(decoded(&mut decoder, &[0x3f, 0xe1, 0x01]).unwrap(), [""; 0]);
        assert_eq!((decoder.limit, decoder.entries.len()), (256, 1));
        assert!(decoded(&mut decoder, &[0xbe]).is_ok());
        assert_eq!(decoded(&mut decoder, &[0x20, 0x3f, 0xe1, 0x01]).unwrap(), [""; 0]);
        assert_eq!(decoded(&mut decoder, &[0xbe]), Err(Broken), "it was emptied in between");
        assert_eq!(decoded(&mut decoder, &[0x82, 0x20]), Err(Broken), "behind a field");
        assert_eq!(decoded(&mut decoder, &[0x3f, 0xe2, 0x1f]), Err(Broken), "more than there is");
        // What is larger than all of the table is not kept, nor anything else.
        assert!(decoded(&mut decoder, &field(b'x', 100)).is_ok());
        assert_eq!(decoder.entries.len(), 1);
        let large = [&[0x40, 1, b'a', 0x7f, 0xad, 0x01][..], &[b'y'; 300]].concat();
        assert!(decoded(&mut decoder, &large).is_ok());
        assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    }

    #[test]
    fn a_malformed_field_is_one_wherever_it_comes_from() {
        let mut decoder = Decoder::new();
        // A bad value in the table, and a good one for its name.
        let bad = [&[0x44, 1][..], b"x"].concat();
        assert_eq!(decoded(&mut decoder, &bad).unwrap(), ["malformed"]);
        assert_eq!(decoded(&mut decoder, &[0xbe, 0x7e, 2, b'/', b'x']).unwrap(), ["malformed", ":path: /x"]);
    }

    #[test]
    fn what_means_nothing_is_broken() {
        for block in [
            &[0x80][..],
            &[0xbe],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
            &[0x7f],
            &[0x40],
            &[0x40, 1],
            &[0x40, 2, b'a'],
            &[0x40, 1, b'a'],
            &[0x40, 1, b'a', 0x7f, 0xff, 0xff, 0xff, 0x7f],
            &[0x40, 0x81, 0x00, 0],
            &[0x00, 1, b'a', 0x82, 0xff, 0xff],
        ] {
            assert_eq!(decoded(&mut Decoder::new(), block), Err(Broken), "{block:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _whatever_it_is = decoder.decode(&block, |_, _| ());
                prop_assert!(decoder.size <= decoder.limit);
                prop_assert_eq!(decoder.size, decoder.entries.iter().map(|entry| entry.size).sum::<usize>());
            }
        }
    }
}
