//! What a control host shows to a person: a page that says that it works, and an honest page for what is not there.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::error::{ApiError, ErrorCode};
use crate::frame::random_hex;
use crate::respond;
use crate::routes::BASE;
use crate::state::ApiState;

/// Adds the pages outside of the API.
pub(crate) fn add(router: Router<ApiState>) -> Router<ApiState> {
    // Browsers ask for an icon by themselves; the pages have none to show.
    router.route("/", get(home)).route("/favicon.ico", get(async || respond::no_content()))
}

/// The page of the base domain.
async fn home(State(state): State<ApiState>) -> Response {
    let urls = state.urls();
    // All of these are parsed names, so that none of them can hold markup.
    let main = HOME
        .replace("{url}", &urls.public_url().to_string())
        .replace("{site}", &urls.public_url().with_host(&format!("my-site.{}", state.config().hosts.base_domain())))
        .replace(
            "{beta}",
            &urls.public_url().with_host(&format!("my-site-beta.{}", state.config().hosts.base_domain())),
        )
        .replace("{base}", BASE);
    page(StatusCode::OK, "Pinstone works", &main)
}

/// The answer to an address that does not exist.
pub(crate) async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    if is_api(uri.path()) || wants_json(&headers) {
        return ApiError::from(ErrorCode::NotFound).into_response();
    }
    page(StatusCode::NOT_FOUND, "Nothing here", NOT_FOUND)
}

/// The answer to a method that an address does not take; the router adds the `Allow` field.
pub(crate) async fn method_not_allowed() -> ApiError {
    ErrorCode::MethodNotAllowed.into()
}

fn is_api(path: &str) -> bool {
    path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the client would rather read JSON than a page: it names JSON, and not HTML.
fn wants_json(headers: &HeaderMap) -> bool {
    let (mut json, mut html) = (false, false);
    for value in headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        let value = value.to_ascii_lowercase();
        json |= value.contains("json");
        html |= value.contains("text/html");
    }
    json && !html
}

fn page(status: StatusCode, title: &str, main: &str) -> Response {
    styled_page(status, title, "", main)
}

/// A page that needs nothing but itself. Its style, with `style` behind the common one, is let in by a nonce, and nothing
/// else is let in at all.
pub(crate) fn styled_page(status: StatusCode, title: &str, style: &str, main: &str) -> Response {
    let nonce = random_hex() + &random_hex();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let text = PAGE.replace("{nonce}", &nonce).replace("{title}", title).replace("{style}", style);
    // Last: what it says is not to be taken for a place that is to be filled.
    let text = text.replacen("{main}", main, 1);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy).expect("hex digits keep the policy a header value")),
    ];
    (status, headers, text).into_response()
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style nonce="{nonce}">
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5c6670; --paper: #fbfaf7; --card: #fff;
  --line: #e3e0d8; --pin: #b5402a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e7e2; --soft: #a2a9b0; --paper: #16191c; --card: #1e2226; --line: #32383e; --pin: #ef8a70; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 2rem 1.25rem;
  background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 system-ui, sans-serif; }
main { width: min(42rem, 100%); }
svg { width: 3rem; height: 3rem; color: var(--pin); }
h1 { margin: .75rem 0 .25rem; font-size: clamp(1.8rem, 5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; }
h2 { margin: 2rem 0 .5rem; font-size: 1rem; }
p { margin: .5rem 0; }
.soft { color: var(--soft); }
pre { margin: .5rem 0; padding: .9rem 1.1rem; overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; font: .95rem/1.5 ui-monospace, monospace; }
code { font: .92em ui-monospace, monospace; }
a { color: var(--pin); text-underline-offset: .2em; }
nav { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  display: flex; gap: 1.5rem; flex-wrap: wrap; }
{style}</style>
</head>
<body>
<main>
<svg viewBox="0 0 48 48" fill="none" stroke="currentColor" stroke-width="3" stroke-linejoin="round" aria-hidden="true">
<path d="M24 4c8 0 14 6 14 13.5C38 28 24 44 24 44S10 28 10 17.5C10 10 16 4 24 4Z"/><path d="m24 11 6 4v6l-6 4-6-4v-6Z"/>
</svg>
{main}
</main>
</body>
</html>
"#;

const HOME: &str = r#"<h1>Pinstone works.</h1>
<p class="soft">This server hosts static sites. It is ready for the first one.</p>
<h2>Publish a folder</h2>
<pre>pinstone deploy ./site --project my-site</pre>
<p>It is then at <a href="{beta}">{beta}</a>, for you to look at.</p>
<h2>Show it to everybody</h2>
<pre>pinstone promote beta prod --project my-site</pre>
<p>Now <a href="{site}">{site}</a> shows the same.</p>
<h2>From another machine</h2>
<pre>export PINSTONE_ENDPOINT={url}
export PINSTONE_TOKEN=…</pre>
<p class="soft">The owner’s token is in the file <code>owner.token</code> in the server’s data folder.</p>
<nav><a href="{base}/docs">API</a><a href="{base}/health">Health</a><a href="{base}/config">Limits</a></nav>"#;

const NOT_FOUND: &str = r#"<h1>Nothing here.</h1>
<p class="soft">This address of the server has no page.</p>
<nav><a href="/">Start page</a></nav>"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_json() {
        for (accept, want) in [
            (&["application/json"][..], true),
            (&["application/problem+JSON, */*"], true),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], false),
            (&["application/json, text/html"], false),
            (&["application/json", "text/html"], false),
            (&["*/*"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(wants_json(&headers), want, "{accept:?}");
        }
    }

    #[test]
    fn what_belongs_to_the_api() {
        for (path, want) in [("/api", true), ("/api/v2/x", true), ("/apis", false), ("/", false)] {
            assert_eq!(is_api(path), want, "{path}");
        }
    }
}
