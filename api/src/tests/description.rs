//! The published description and the code say the same.

use crate::access::Need;
use crate::error::ErrorCode;
use crate::routes::ROUTES;

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
