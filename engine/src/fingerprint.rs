//! Names that carry a digest of their content: what a browser may keep for a year without asking.
//!
//! Bundlers write a digest into the name of a file so that other content gets another name. Whether a name has one is
//! a guess. To take a word, a date or a number for a digest hurts more than to overlook one: the first makes visitors
//! keep an old file for a year, the second costs a question that 304 answers. So the rules prefer to overlook.
//!
//! A name is split at `.`, `-` and `_`. It is fingerprinted where a segment has one of these forms:
//!
//! * **Hexadecimal**, at least 8 of `[0-9a-f]`: webpack, Next.js, Parcel, Gatsby, Docusaurus, Rails, Django, Hugo,
//!   Sphinx, `MkDocs`, rustdoc, Trunk. It has at least two digits and a letter. Without a letter it is a date, a time or a
//!   number, whatever its length; without a second digit it may be words (`facade`, `face2face`). One letter run beside
//!   one digit run is a word and a number (`decade2020`, `20240131b`): such a segment counts only with five or seven
//!   digits, which no year and no date has, and behind another segment. A segment that starts with a date
//!   (`20240131b2`) or whose only letters are `dec` or `feb` (`31dec2024`) is a date. A UUID names a thing, not its
//!   content. Hugo writes `hu` before the digits.
//! * **Mixed case**, at least 8 of `[A-Za-z0-9]`, right before a `.`: Vite, Rollup, `SvelteKit`, Astro. It has letters of
//!   both cases and a digit, and looks like nothing that was put together from words: no four small letters in a row,
//!   not all digits at the end, and more than one change of class for every three characters, where a capital and the
//!   small letter behind it count as one class.
//! * **Base 32**, exactly 8 of `[A-Z2-7]`, behind another segment and right before a `.`: esbuild, Angular. It has a digit
//!   that does not end it (`CHAPTER2`). Behind `chunk`, which is what esbuild calls what nobody named, it needs no digit.
//!
//! What is overlooked: some 6 % of digests of eight hexadecimal digits, and hardly any longer ones; digests of small
//! letters and digits beyond `f`, because `sha256sums` and `html5shiv` look no different; one of four of esbuild's; and
//! more than half of those that Vite makes of 8 characters of base 64 when nobody tells it `hashCharacters: 'hex'`: they
//! have a `-`, a `_` or no digit, or look like words.

/// Whether the name of a file changes with its content, so that what was fetched under it never has to be asked for
/// again.
///
/// A page is never one, whatever its name: it is an address that people keep, and what is at an address changes.
#[must_use]
pub fn is_fingerprinted(file_name: &str, content_type: &str) -> bool {
    !is_page(content_type) && has_digest(file_name)
}

fn is_page(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
}

fn has_digest(file_name: &str) -> bool {
    let mut rest = file_name.as_bytes();
    let mut before: Option<&[u8]> = None;
    loop {
        if let Some(behind) = behind_uuid(rest) {
            before = Some(b"");
            rest = behind;
        }
        let length = rest.iter().position(|byte| is_separator(*byte)).unwrap_or(rest.len());
        let (segment, behind) = rest.split_at(length);
        // Nothing shorter is a digest, and most segments are.
        if segment.len() >= SHORTEST {
            let ends_the_stem = behind.first() == Some(&b'.');
            if is_hexadecimal(segment, before.is_some())
                || ends_the_stem && (is_mixed_case(segment) || before.is_some_and(|before| is_base32(segment, before)))
            {
                return true;
            }
        }
        let Some((_, behind)) = behind.split_first() else { return false };
        before = Some(segment);
        rest = behind;
    }
}

/// The fewest characters of a digest.
const SHORTEST: usize = 8;

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'_')
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// What follows the UUID that `name` starts with.
fn behind_uuid(name: &[u8]) -> Option<&[u8]> {
    let (uuid, behind) = name.split_at_checked("00000000-0000-0000-0000-000000000000".len())?;
    let is_one = uuid.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (is_one && behind.first().is_none_or(|byte| is_separator(*byte))).then_some(behind)
}

fn is_hexadecimal(segment: &[u8], follows_another: bool) -> bool {
    /// What Hugo's digests have at least; a leading zero is not printed.
    const HUGO: usize = 15;
    let digits = match segment.strip_prefix(b"hu") {
        Some(digits) if digits.len() >= HUGO => digits,
        _ => segment,
    };
    if !digits.iter().all(|byte| is_hex(*byte)) {
        return false;
    }
    let numerals = digits.iter().filter(|byte| byte.is_ascii_digit()).count();
    if numerals < 2 || numerals == digits.len() || starts_with_date(digits) {
        return false;
    }
    let letters = digits.split(u8::is_ascii_digit).filter(|run| !run.is_empty());
    if letters.clone().count() == 1 && letters.clone().all(|run| run == b"dec" || run == b"feb") {
        return false;
    }
    let is_word_and_number = changes(digits) == 1;
    !is_word_and_number || follows_another && matches!(numerals, 5 | 7)
}

/// Whether it starts with a date: `20240131`; or, where it is short, `240131`, which one long digest in 500 does too.
fn starts_with_date(segment: &[u8]) -> bool {
    const LONG: usize = 16;
    let number = |from: usize| match segment.get(from..from + 2) {
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    };
    let is_day = |from: usize| {
        number(from).is_some_and(|month| (1..=12).contains(&month))
            && number(from + 2).is_some_and(|day| (1..=31).contains(&day))
    };
    let has_century = matches!(number(0), Some(19 | 20)) && number(2).is_some();
    has_century && is_day(4) || segment.len() < LONG && number(0).is_some() && is_day(2)
}

fn is_mixed_case(segment: &[u8]) -> bool {
    let is_any = |test: fn(&u8) -> bool| segment.iter().any(test);
    segment.iter().all(u8::is_ascii_alphanumeric)
        && is_any(u8::is_ascii_uppercase)
        && is_any(u8::is_ascii_lowercase)
        && has_inner_digit(segment)
        && !segment.windows(4).any(|run| run.iter().all(u8::is_ascii_lowercase))
        && changes(segment) * 3 > segment.len()
}

fn is_base32(segment: &[u8], before: &[u8]) -> bool {
    segment.len() == SHORTEST
        && segment.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
        && (has_inner_digit(segment) || before == b"chunk")
}

/// Whether a letter follows a digit somewhere.
fn has_inner_digit(segment: &[u8]) -> bool {
    segment.windows(2).any(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic())
}

/// How often the class of characters changes, where a capital and the small letter behind it are of one class.
fn changes(segment: &[u8]) -> usize {
    let class = |byte: u8| match byte {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        _ => 2,
    };
    let classes = segment.windows(2).map(|pair| (class(pair[0]), class(pair[1])));
    classes.filter(|(left, right)| left != right && (*left, *right) != (1, 2)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_digest() {
        for name in [
            // Vite, Rollup, SvelteKit, Astro
            "index-BX2kq9Zt.js",
            "index-legacy-BX2kq9Zt.js",
            "index-D8s0Tf3k.css",
            "index-BX2kq9Zt.js.map",
            "BX2kq9Zt.js",
            "start.D4Gx1o9a.js",
            "hoisted.C1aN8vQz.js",
            "_slug_.Ck3mW9Lq.css",
            "inter-latin-400-normal-B4pT7xZe.woff2",
            "vendor-aB3dE5gH7jK9.js",
            "index.6f2a9b1c.js",
            // webpack, Parcel, Next.js, Gatsby, Docusaurus
            "app.4f3a9c1b.js",
            "main.5f2c1e8d9a.bundle.js",
            "2.4f3a9c1b.chunk.js",
            "vendors~main.0d1e2f3a4b5c6d7e8f90.js",
            "framework-64ad27b21261a9ce.js",
            "1684-9e6f4f2d9a8d3c2b.js",
            "4cf2300e9c8272f7-s.p.woff2",
            "3c1a5f0b2d4e6f78.css",
            "component---src-pages-index-js-8f2d1c0e9b7a6f5d4c3b.js",
            "935f2afb.7e41a0c2.js",
            "runtime~main.3b9e2a6d.js",
            "logo-9a1f2e3d4c5b6a798897a6b5c4d3e2f1.png",
            "main.9f8e7d6c.js.LICENSE.txt",
            // esbuild, Angular
            "chunk-VQWB3X2P.js",
            "chunk-EQDQRRRY.js",
            "main-7LNTWFIO.js",
            "styles-5INURTSO.css",
            "main.4f3a9c1b2d3e4f5a.js",
            // Rails, Django, Hugo, Sphinx, MkDocs
            "application-0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9.js",
            "application-8b441ae0.css",
            "base.27e20196a850.css",
            "style.min.3c9f0a2b.css",
            "cover_hu3f2a1b9c8d7e6f5a_12345_500x0_resize_q75_box.jpg",
            "cover_hu_3f2a1b9c8d7e6f5a.webp",
            "graphviz-0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c.svg",
            "main.3cba04c6.min.css",
            "search.b8dbb3d2.min.js",
            // rustdoc, mdBook, Trunk
            "main-9dd44ab47b99a0fb.js",
            "main-240131b2c3d4e5f6.js",
            "rustdoc-4f3a9c1b2d.css",
            "normalize-9960930a.css",
            "SourceCodePro-Semibold.ttf-d899c5a5c4aeb14a.woff2",
            "site-4f3a9c1b2d3e4f5a_bg.wasm",
            "logo.abc12345.svg",
        ] {
            assert!(is_fingerprinted(name, "text/javascript; charset=utf-8"), "{name}");
        }
    }

    #[test]
    fn names_without_a_digest() {
        for name in [
            "",
            ".",
            "app.js",
            ".htaccess",
            // Versions
            "jquery-3.7.1.min.js",
            "v1.2.3",
            "lib-v10.20.30-beta.4.js",
            "linux_x86_64.tar.gz",
            "app-4f3a9c1.js", // seven digits
            "build-20240131b2.js",
            "build-240131b2.js",
            // Dates, times and other numbers
            "2024-01-31-notes.md",
            "20240131-notes.md",
            "20231105.css",
            "20231105a.css",
            "IMG_20230131_123456.jpg",
            "12345678_90123456789012345_n.jpg",
            "backup-1700000000000.json",
            "tel-00491711234567.vcf",
            "9783161484100.jpg",
            "report-31dec2024.pdf",
            "01feb2024.csv",
            "dec20241225.jpg",
            "1920x1080x60.png",
            "fac12345.pdf",
            // Words
            "deadbeef.js",
            "deadbeefcafe.js",
            "facade.js",
            "effaced-facade.css",
            "face2face.jpg",
            "decade2020.css",
            "cafebabe1234.js",
            "badc0ffee.css",
            "Bootstrap5Bundle.js",
            "component-Web3Modal.js",
            "layout-Page2Nav.js",
            "html5shiv.min.js",
            "sha256sums.txt",
            "base64url.js",
            "i18next-http.js",
            "log4javascript.js",
            "Picture1.png",
            "Image001.png",
            "Slide-Figure12.png",
            "IPhone14.png",
            "CHAPTER2.txt",
            "book-CHAPTER2.txt",
            "IMG2PDF7.js",
            "LICENSES-OVERVIEW.txt",
            "style-OVERRIDE.css",
            "RFC9110.txt",
            "iso-ISO27001.svg",
            "DataTables.js",
            "XMLHttpRequest.js",
            "libSvtAv1Enc.so.1.4.1",
            // What names a thing and not its content
            "123e4567-e89b-12d3-a456-426614174000.png",
            "photo-123e4567-e89b-12d3-a456-426614174000-large.png",
            // Segments that are joined by something else
            "4f3a 9c1b.js",
            "4f3a~9c1b.js",
            "\u{e9}4f3a9c1b.js",
        ] {
            assert!(!is_fingerprinted(name, "text/javascript; charset=utf-8"), "{name}");
        }
    }

    #[test]
    fn a_page_is_an_address_whatever_its_name() {
        for (content_type, want) in [
            ("text/html; charset=utf-8", false),
            ("TEXT/HTML ;charset=utf-8", false),
            ("application/xhtml+xml", false),
            ("text/htmlx", true),
            ("image/svg+xml", true),
            ("", true),
        ] {
            assert_eq!(is_fingerprinted("page.4f3a9c1b.html", content_type), want, "{content_type}");
        }
        assert!(!is_fingerprinted("deadbeef.html", "text/html"));
        assert!(!is_fingerprinted("2024-01-31-notes.html", "text/html"));
    }
}
