//! Lists that come in pages.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde::de::DeserializeOwned;

use super::{Client, Failure};

/// Every page of a list, up to `limit` items.
pub(crate) async fn all_pages<T: DeserializeOwned>(
    client: &Client,
    segments: &[&str],
    query: &[(&str, &str)],
    limit: usize,
) -> Result<Vec<T>, Failure> {
    let mut items: Vec<T> = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < limit {
        let wanted = (limit - items.len()).min(1000).to_string();
        let mut query = query.to_vec();
        query.push(("limit", &wanted));
        if let Some(cursor) = &cursor {
            query.push(("cursor", cursor));
        }
        let page: pinstone_api::wire::Page<T> = client.get(segments, &query).await?;
        items.extend(page.items);
        match page.next_cursor {
            // The same cursor again would be the same page for ever.
            Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
            _ => break,
        }
    }
    items.truncate(limit);
    Ok(items)
}

/// The cursor in the address that `Link` fields name as the next page (RFC 8288).
///
/// Only the cursor is taken: where a list is asked for stays the caller's decision, so that no answer sends the token
/// elsewhere, and a server behind a path of a proxy need not know of it.
pub(super) fn linked_cursor(headers: &HeaderMap) -> Option<String> {
    let fields = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = fields.flat_map(links).find(|(_, parameters)| is_next(parameters)).map(|(target, _)| target)?;
    // What it is relative to does not matter to its query.
    let target = Url::parse("http://server.invalid").ok()?.join(target).ok()?;
    target.query_pairs().find(|(name, _)| name == "cursor").map(|(_, cursor)| cursor.into_owned())
}

/// The links of one field: the target of each, and its parameters as they are written. What is no link ends the field.
fn links(mut field: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    while let Some((target, rest)) =
        field.trim_start_matches([' ', '\t', ',']).strip_prefix('<').and_then(|rest| rest.split_once('>'))
    {
        let mut is_quoted = false;
        let end = rest.find(|letter| {
            is_quoted ^= letter == '"';
            letter == ',' && !is_quoted
        });
        let (parameters, next) = rest.split_at(end.unwrap_or(rest.len()));
        found.push((target, parameters));
        field = next;
    }
    found
}

/// Whether `next` is one of the relations that the parameter `rel` lists. Only the first such parameter counts.
fn is_next(parameters: &str) -> bool {
    let pairs = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let relations = pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
    let mut relations = relations.filter(|(name, _)| name.eq_ignore_ascii_case("rel"));
    relations.next().is_some_and(|(_, list)| list.split(' ').any(|relation| relation.eq_ignore_ascii_case("next")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_of_a_link() {
        for (fields, want) in [
            (&["</api/v1/projects?limit=1000&cursor=abc>; rel=\"next\""][..], Some("abc")),
            (&["<https://elsewhere.example/x?cursor=a%20b>; rel=next"], Some("a b")),
            (&["<?cursor=a>;REL=\"Prev NEXT\""], Some("a")),
            (&["</x?cursor=a>; rel=prev, </x?cursor=b,c>; title=\"a, b\"; rel=next"], Some("b,c")),
            (&["</x?cursor=a>; rel=prev", "</x?cursor=b>; rel=next"], Some("b")),
            (&["</x?cursor=a>; rel=prev; rel=next"], None),
            (&["</x?cursor=a>"], None),
            (&["</x>; rel=next"], None),
            (&["</x?cursor=a; rel=next"], None),
            (&["/x?cursor=a; rel=next"], None),
            (&["<http://[>; rel=next"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(LINK, field.parse().unwrap());
            }
            assert_eq!(linked_cursor(&headers).as_deref(), want, "{fields:?}");
        }
    }
}
