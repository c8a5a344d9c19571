//! The description of the API as a page that needs nothing but itself: no script, no font, no other host.

use std::fmt::Write;

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use crate::home;

/// The methods of an address, in the order of the page.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page around what [`main`] made.
pub(crate) fn page(main: &str) -> Response {
    home::styled_page(StatusCode::OK, "Pinstone API", STYLE, main)
}

/// What the page says of `description`, which is an OpenAPI document.
pub(crate) fn main(description: &Value) -> String {
    let mut out = String::new();
    let info = &description["info"];
    add(&mut out, format_args!("<h1>{} API</h1>", escaped(text(&info["title"]))));
    add(&mut out, format_args!("<p class=\"soft\">For programs: <a href=\"openapi.json\">openapi.json</a>.</p>"));
    prose(&mut out, text(&info["description"]));
    let tags = description["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut calls = String::new();
    let mut contents = String::new();
    for tag in tags {
        let (name, what) = (text(&tag["name"]), text(&tag["description"]));
        add(&mut calls, format_args!("<h2 id=\"{0}\">{1}</h2>", escaped(name), inline(what)));
        add(&mut contents, format_args!("<li><a href=\"#{0}\">{1}</a><ul>", escaped(name), inline(what)));
        for (path, method, operation) in operations(description, name) {
            let id = escaped(text(&operation["operationId"]));
            let call = format!("{} {}", method.to_ascii_uppercase(), escaped(path));
            add(&mut contents, format_args!("<li><a href=\"#{id}\"><code>{call}</code></a></li>"));
            add(&mut calls, format_args!("<section id=\"{id}\"><h3><code>{call}</code></h3>"));
            call_of(&mut calls, description, &description["paths"][path], method, operation);
            calls.push_str("</section>");
        }
        contents.push_str("</ul></li>");
    }
    add(&mut out, format_args!("<nav><ul class=\"contents\">{contents}</ul></nav>{calls}"));
    out.push_str("<h2 id=\"shapes\">Shapes</h2>");
    for (name, schema) in description["components"]["schemas"].as_object().into_iter().flatten() {
        let id = escaped(name);
        add(&mut out, format_args!("<section id=\"shape-{id}\"><h3>{id}</h3>"));
        prose(&mut out, text(&schema["description"]));
        add(&mut out, format_args!("<p>{}</p>", shape(schema)));
        properties(&mut out, schema);
        out.push_str("</section>");
    }
    out
}

/// The operations of a tag, in the order of their paths.
fn operations<'d>(description: &'d Value, tag: &str) -> Vec<(&'d str, &'static str, &'d Value)> {
    let mut found = Vec::new();
    for (path, item) in description["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            let operation = &item[method];
            if operation["tags"][0] == tag {
                found.push((path.as_str(), method, operation));
            }
        }
    }
    found
}

fn call_of(out: &mut String, description: &Value, item: &Value, method: &str, operation: &Value) {
    add(out, format_args!("<p>{}.</p>", inline(text(&operation["summary"]))));
    prose(out, text(&operation["description"]));
    let needs = match (&operation["security"], operation["x-scope"].as_str()) {
        (Value::Array(security), _) if security.is_empty() => "no token",
        (Value::Array(_), _) => "no token, or one",
        (_, Some(scope)) => scope,
        _ if method == "get" => "read",
        _ => "deploy",
    };
    add(out, format_args!("<p class=\"soft\">Needs: {}</p>", escaped(needs)));
    let parameters = [&item["parameters"], &operation["parameters"]];
    let parameters: Vec<_> = parameters.iter().filter_map(|list| list.as_array()).flatten().collect();
    if !parameters.is_empty() {
        out.push_str("<table><tr><th>Parameter<th>In<th>What</tr>");
        for parameter in parameters {
            let parameter = resolved(description, parameter);
            let name = escaped(text(&parameter["name"]));
            let required = if parameter["required"] == true { ", required" } else { "" };
            let place = escaped(text(&parameter["in"]));
            let what = inline(text(&parameter["description"]));
            let kind = shape(&parameter["schema"]);
            add(out, format_args!("<tr><td><code>{name}</code><td>{place}{required}<td>{kind} {what}</tr>"));
        }
        out.push_str("</table>");
    }
    let body = resolved(description, &operation["requestBody"]);
    if !body.is_null() {
        add(out, format_args!("<p>Body: {}</p>", inline(text(&body["description"]))));
        content(out, body);
    }
    out.push_str("<table><tr><th>Status<th>Answer</tr>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let answer = resolved(description, answer);
        let what = inline(text(&answer["description"]));
        add(out, format_args!("<tr><td>{}<td>{what} ", escaped(status)));
        content(out, answer);
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

/// The media types of a body and their shapes.
fn content(out: &mut String, body: &Value) {
    for (media, of) in body["content"].as_object().into_iter().flatten() {
        if media == "application/json" {
            out.push_str(&shape(&of["schema"]));
            properties(out, &of["schema"]);
        } else {
            add(out, format_args!("<code>{}</code> ", escaped(media)));
        }
    }
}

/// The properties of an object, one a line.
fn properties(out: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let is_required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    out.push_str("<ul>");
    for (name, property) in properties {
        let optional = if is_required(name) { "" } else { ", optional" };
        let what = inline(text(&property["description"]));
        let (name, kind) = (escaped(name), shape(property));
        add(out, format_args!("<li><code>{name}</code>: {kind}{optional}. {what}"));
        properties_within(out, property);
        out.push_str("</li>");
    }
    out.push_str("</ul>");
}

fn properties_within(out: &mut String, schema: &Value) {
    properties(out, schema);
    properties(out, &schema["items"]);
}

/// A schema in a few words.
fn shape(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#shape-{name}\">{name}</a>");
    }
    for (key, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(all) = schema[key].as_array() {
            return all.iter().map(shape).collect::<Vec<_>>().join(word);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(|value| format!("<code>{}</code>", escaped(&plain(value)))).collect();
        return values.join(", ");
    }
    if !schema["const"].is_null() {
        return format!("<code>{}</code>", escaped(&plain(&schema["const"])));
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", shape(&schema["items"])),
        Value::String(kind) => escaped(kind),
        Value::Array(kinds) => kinds.iter().map(|kind| escaped(text(kind))).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a reference within the document leads to; a value that is none is itself.
fn resolved<'d>(description: &'d Value, value: &'d Value) -> &'d Value {
    let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| description.pointer(pointer)).unwrap_or(value)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn add(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string takes whatever is written");
}

/// Paragraphs and lists of a text in Markdown, as far as the description uses it.
fn prose(out: &mut String, text: &str) {
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        match block.strip_prefix("* ") {
            Some(list) => {
                let items = list.split("\n* ").map(|item| format!("<li>{}</li>", inline(item)));
                add(out, format_args!("<ul>{}</ul>", items.collect::<String>()));
            }
            None => add(out, format_args!("<p>{}</p>", inline(block))),
        }
    }
}

/// A text with `code` and **bold** as elements.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            add(&mut out, format_args!("<code>{}</code>", escaped(part)));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            let part = escaped(part);
            if index % 2 == 1 { add(&mut out, format_args!("<b>{part}</b>")) } else { out.push_str(&part) }
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "
body { place-items: start center; }
main { width: min(52rem, 100%); }
h2 { font-size: 1.4rem; margin-top: 3rem; }
h3 { font-size: 1.05rem; margin: 0 0 .5rem; }
section { margin: 1rem 0; padding: 1rem 1.2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; overflow-x: auto; }
section:target { border-color: var(--pin); }
table { width: 100%; border-collapse: collapse; margin: .75rem 0; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
ul { margin: .4rem 0; padding-left: 1.2rem; }
.contents, .contents ul { list-style: none; }
.contents ul { columns: 18rem; }
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_become_markup_and_nothing_else_does() {
        for (text, want) in [
            ("plain", "plain"),
            ("`a<b` and **bold**", "<code>a&lt;b</code> and <b>bold</b>"),
            ("<script>\"&", "&lt;script&gt;&quot;&amp;"),
        ] {
            assert_eq!(inline(text), want);
        }
        let mut out = String::new();
        prose(&mut out, "one\ntwo\n\n* a\n  b\n* c\n\n");
        assert_eq!(out, "<p>one\ntwo</p><ul><li>a\n  b</li><li>c</li></ul>");
    }

    #[test]
    fn shapes_in_words() {
        for (schema, want) in [
            (json!({ "type": "string" }), "string"),
            (json!({ "type": ["integer", "null"] }), "integer or null"),
            (json!({ "enum": ["a", null] }), "<code>a</code>, <code>null</code>"),
            (json!({ "$ref": "#/components/schemas/Page" }), "<a href=\"#shape-Page\">Page</a>"),
            (json!({ "type": "array", "items": { "type": "string" } }), "list of string"),
            (json!({ "oneOf": [{ "type": "string" }, { "const": 1 }] }), "string or <code>1</code>"),
            (json!({}), ""),
        ] {
            assert_eq!(shape(&schema), want, "{schema}");
        }
    }
}
