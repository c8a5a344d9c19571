//! How deep JSON is nested, told from its bytes before anything is built from them.

/// Whether arrays and objects in `json` are nested more than `limit` levels deep.
///
/// `json` need not be well-formed: the parser judges that. Brackets inside of strings do not count.
pub(crate) fn is_deeper_than(json: &[u8], limit: usize) -> bool {
    let mut depth: usize = 0;
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_outside_of_strings_count() {
        for (json, depth) in [
            ("", 0),
            ("1", 0),
            (r#""[[[""#, 0),
            (r#""\"[[""#, 0),
            (r#""\\"[[]]"#, 2),
            ("[]", 1),
            ("[][][]", 1),
            (r#"{"a":[{"b":"}"}]}"#, 3),
            ("]]][[", 2),
            ("[[[[", 4),
        ] {
            assert!(!is_deeper_than(json.as_bytes(), depth), "{json}");
            assert!(depth == 0 || is_deeper_than(json.as_bytes(), depth - 1), "{json}");
        }
    }
}
