//! The published description and the code say the same.

use std::sync::LazyLock;

use http::{Method, StatusCode};
use serde_json::Value;

use super::world::World;
use crate::access::Need;
use crate::error::ErrorCode;
use crate::routes::{BASE, ROUTES};

const DESCRIPTION: &str = include_str!("../../../docs/openapi.yaml");

/// The lines of the block that `head` opens: those below it that are indented deeper.
fn block<'t>(text: &'t str, head: &str) -> Vec<&'t str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| *line != head);
    let head = lines.next().unwrap_or_else(|| panic!("`{head}` is described"));
    lines.take_while(|line| line.is_empty() || depth(line) > depth(head)).collect()
}

#[test]
fn every_route_is_described_with_its_methods_and_no_other_is() {
    let paths = block(DESCRIPTION, "paths:");
    let described = paths.iter().filter(|line| line.starts_with("  /")).count();
    assert_eq!(described, ROUTES.len());
    for route in ROUTES {
        let mut methods: Vec<_> = block(&paths.join("\n"), &format!("  {}:", route.path))
            .into_iter()
            .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(':'))
            .filter(|key| ["get", "post", "put", "delete", "patch", "head", "options"].contains(key))
            .map(str::to_ascii_uppercase)
            .collect();
        let mut want: Vec<_> = route.methods.iter().map(|(method, _)| *method).collect();
        methods.sort_unstable();
        want.sort_unstable();
        assert_eq!(methods, want, "{}", route.path);
    }
}

#[test]
fn every_route_is_described_with_what_it_needs() {
    let paths = block(DESCRIPTION, "paths:").join("\n");
    for route in ROUTES {
        let described = block(&paths, &format!("  {}:", route.path)).join("\n");
        for (method, need) in route.methods {
            let operation = block(&described, &format!("    {}:", method.to_ascii_lowercase()));
            let said = |key: &str| operation.iter().find_map(|line| line.strip_prefix(&format!("      {key}: ")));
            let usual = if *method == "GET" { "read" } else { "deploy" };
            let (scope, security) = match need {
                Need::Nothing => (None, Some("[]")),
                Need::NothingOrToken => (None, Some("[{}, { token: [] }]")),
                Need::Token(scope, _) => (Some(scope.as_str()).filter(|scope| *scope != usual), None),
            };
            assert_eq!((said("x-scope"), said("security")), (scope, security), "{method} {}", route.path);
        }
    }
}

#[test]
fn every_code_is_described_and_no_other_is() {
    let codes = block(DESCRIPTION, "          enum:");
    let mut described: Vec<_> = codes.iter().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    let mut want: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    described.sort_unstable();
    want.sort_unstable();
    assert_eq!(described, want);
}

/// The description as the server answers it.
static ANSWERED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(crate::routes::description::DESCRIPTION).unwrap());

/// Asserts that a call of the table of routes is described to answer with this status. Every answer of every test here
/// passes by.
pub(super) fn assert_described(method: &Method, path: &str, status: StatusCode) {
    let Some(path) = path.strip_prefix(BASE) else { return };
    let segments: Vec<_> = path.split('/').collect();
    let is_route = |route: &str| {
        let route: Vec<_> = route.split('/').collect();
        let same = |(is, should): (&&str, &&str)| is == should || should.starts_with('{') && !is.is_empty();
        route.len() == segments.len() && segments.iter().zip(&route).all(same)
    };
    // Where two fit, the one with fewer places for anything is meant.
    let fitting = ROUTES.iter().filter(|route| is_route(route.path));
    let Some(route) = fitting.min_by_key(|route| route.path.matches('{').count()) else { return };
    let method = if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_ascii_lowercase() };
    let operation = &ANSWERED["paths"][route.path][&method];
    // Methods that a route does not take, addresses that cannot be read, and panics are told of once for all calls.
    if operation.is_null() || matches!(status, StatusCode::INTERNAL_SERVER_ERROR) {
        return;
    }
    let answers = &operation["responses"];
    assert!(!answers[status.as_str()].is_null(), "{method} {} is not described to answer {status}", route.path);
}

#[tokio::test]
async fn the_description_is_answered_as_json_and_as_a_page() {
    let world = World::new().await;
    let json = world.stranger(Method::GET, "/api/v1/openapi.json").send().await;
    assert_eq!((json.status, json.header("content-type")), (StatusCode::OK, "application/json"));
    let description = json.json();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), ROUTES.len());

    let page = world.stranger(Method::GET, "/api/v1/docs").send().await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    // Nothing is fetched from anywhere, and every link within the page leads somewhere.
    for part in ["<script", "<img", "<link", "src=", "@import", "url(", "://"] {
        assert!(!page.text.contains(part), "{part} in {}", page.text);
    }
    for link in page.text.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(page.text.contains(&format!("id=\"{id}\"")), "#{id}");
    }
    for route in ROUTES {
        for (method, _) in route.methods {
            assert!(page.text.contains(&format!("<code>{method} {}</code>", route.path)), "{method} {}", route.path);
        }
    }
    for placeholder in ["{main}", "{nonce}", "{style}", "{title}"] {
        assert!(!page.text.contains(placeholder), "{placeholder}");
    }
}

#[test]
fn everything_that_the_description_refers_to_is_in_it() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&ANSWERED, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(ANSWERED.pointer(pointer).is_some(), "{reference}");
    }
}
