//! Whether a request is a navigation: somebody goes to a page, rather than a page fetching something. Pure.
//!
//! A site that is one page answers a miss with that page only where a person would see it. A script, a picture or a
//! call that is missing gets an honest 404; else a program would take the page for what it had asked for.

/// The fields of a request that [`is_navigation`] looks at: what `Vary` has to name.
///
/// Both answers of such a miss name both, the 200 and the 404, or a cache would give a browser's page to a script that
/// asks for the same path, or a script's 404 to a browser. All else about the 200 is as for the file at its own path,
/// because that is what is sent: the file's type, its validators (its ETag is that of its bytes, so a 304 is right for
/// every path that shows it, and the first release with a file at the path has another), ranges of it, HEAD without its
/// body, and a cache must ask again each time, for the next release may have a file there. The 404 is `no-cache` as
/// every 404.
pub const DEPENDS_ON: &str = "Sec-Fetch-Mode, Accept";

/// Decides by the lines of `Sec-Fetch-Mode`, which browsers send and pages cannot set; and where there is none, by
/// whether the lines of `Accept` name `text/html`, as browsers do for navigations only.
pub fn is_navigation<'r>(
    sec_fetch_mode: impl IntoIterator<Item = &'r [u8]>,
    accept: impl IntoIterator<Item = &'r [u8]>,
) -> bool {
    let mut modes = sec_fetch_mode.into_iter();
    match (modes.next(), modes.next()) {
        (Some(mode), None) => mode.trim_ascii() == b"navigate",
        (Some(_), Some(_)) => false,
        (None, _) => accept.into_iter().any(|line| line.split(|byte| *byte == b',').any(names_html)),
    }
}

/// Whether one item of `Accept` names `text/html`, and not to say that it is unwanted (`q=0`).
fn names_html(item: &[u8]) -> bool {
    let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_html = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"text/html"));
    is_html && !parts.any(is_zero_weight)
}

/// `q=0`, with up to three more zeros (RFC 9110 section 12.4.2).
fn is_zero_weight(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', b'=', b'0', rest @ ..] = parameter else { return false };
    matches!(rest, [] | [b'.', ..]) && rest.iter().skip(1).all(|digit| *digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'t>(lines: &'t [&'t str]) -> impl Iterator<Item = &'t [u8]> {
        lines.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn what_is_a_navigation() {
        const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
        for (modes, accept, want) in [
            (&["navigate"][..], &[CHROME][..], true),
            (&["navigate"], &[], true),
            (&[" navigate\t"], &["*/*"], true),
            // The mode decides, where there is one.
            (&["cors"], &[CHROME], false),
            (&["no-cors"], &["text/html"], false),
            (&["same-origin"], &["text/html"], false),
            (&["websocket"], &[], false),
            (&["Navigate"], &[], false),
            (&[""], &["text/html"], false),
            (&["navigate", "navigate"], &["text/html"], false),
            // Without one, what is accepted.
            (&[], &[CHROME], true),
            (&[], &["text/html"], true),
            (&[], &["Text/HTML; charset=utf-8"], true),
            (&[], &["application/json", "text/html;q=0.1"], true),
            (&[], &["application/json ,\ttext/html ; q=0.001"], true),
            (&[], &["text/html;q=0"], false),
            (&[], &["text/html; Q=0.000"], false),
            (&[], &["text/html;level=1;q=0."], false),
            (&[], &["*/*"], false),
            (&[], &["text/*"], false),
            (&[], &["text/htmlx"], false),
            (&[], &["application/xhtml+xml"], false),
            (&[], &["image/avif,image/webp,*/*"], false),
            (&[], &["", ",,;"], false),
            (&[], &[], false),
        ] {
            assert_eq!(is_navigation(lines(modes), lines(accept)), want, "{modes:?} {accept:?}");
        }
    }
}
