//! How an answer came about, told to who asks for it by `Pinstone-Debug: 1` where the configuration allows it.
//!
//! Fields are added to an answer that is decided already, so nothing of it changes but them and one word: `private` in
//! `Cache-Control`. With it no shared cache keeps the fields for others. `Vary` would not do: it would have to be on every
//! answer, also of those who never debug, and split every cache in two.

use std::time::{Duration, Instant};

use http::header::{self, HeaderName, HeaderValue};
use pinstone_engine::id::ImageId;

use crate::access_log::Found;
use crate::reply::ReplyFields;
use crate::request_head::RequestHead;
use crate::telemetry::Lookup;

const ASKS: &str = "pinstone-debug";
const IMAGE: HeaderName = HeaderName::from_static("pinstone-image");
const PROJECT: HeaderName = HeaderName::from_static("pinstone-project");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Whether a request asks for debugging.
pub(crate) fn is_asked(request: &RequestHead) -> bool {
    request.first(ASKS) == Some(b"1")
}

/// What is told.
#[derive(Debug)]
pub(crate) struct Debugging {
    /// The end of the step before.
    last: Instant,
    resolve: Option<Duration>,
    manifest: Option<Duration>,
    blob: Option<Duration>,
    project: Option<(String, String)>,
}

impl Debugging {
    pub(crate) fn new(started: Instant) -> Self {
        Self { last: started, resolve: None, manifest: None, blob: None, project: None }
    }

    /// The host was found to show this.
    pub(crate) fn shows(&mut self, project: &str, image: &ImageId) {
        self.resolve = Some(self.lap());
        self.project = Some((project.to_owned(), image.to_string()));
    }

    /// A step is done.
    pub(crate) fn step_to(&mut self, what: Lookup) {
        let step = match what {
            // A part of finding out what the host shows.
            Lookup::HostedImage => return,
            Lookup::Manifest => &mut self.manifest,
            Lookup::SmallBlob | Lookup::OpenFile => &mut self.blob,
        };
        let now = Instant::now();
        *step = Some(now - self.last);
        self.last = now;
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.last, now)
    }

    /// Writes all of it into an answer's head.
    pub(crate) fn mark(&self, found: Option<Found>, fields: &mut ReplyFields) {
        let mut set = |name, text: String| {
            fields.insert(name, HeaderValue::try_from(text).expect("names, digits and words are ASCII"));
        };
        if let Some((project, image)) = &self.project {
            set(PROJECT, project.clone());
            set(IMAGE, image.clone());
        }
        if let Some(found) = found {
            set(CACHE_STATUS, cache_status(found));
        }
        let timing = timing(&[("resolve", self.resolve), ("manifest", self.manifest), ("blob", self.blob)]);
        if !timing.is_empty() {
            set(SERVER_TIMING, timing);
        }
        let kept = fields.get(&header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let private = HeaderValue::try_from(private(kept)).expect("the value was one before a word was added");
        fields.insert(header::CACHE_CONTROL, private);
    }
}

/// RFC 9211.
fn cache_status(found: Found) -> String {
    match found {
        Found::Hit => "pinstone; hit".to_owned(),
        Found::Miss(what) => format!("pinstone; fwd=miss; detail={what}"),
    }
}

/// W3C Server-Timing: durations in milliseconds.
fn timing(steps: &[(&str, Option<Duration>)]) -> String {
    let steps = steps.iter().filter_map(|(name, took)| Some((name, (*took)?)));
    let steps: Vec<_> = steps.map(|(name, took)| format!("{name};dur={:.3}", took.as_secs_f64() * 1e3)).collect();
    steps.join(", ")
}

/// The same `Cache-Control` with `private` in it, which goes before `public` (RFC 9111 section 3). The rest is left to be
/// seen by who is debugging.
fn private(cache_control: Option<&str>) -> String {
    match cache_control {
        None | Some("") => "private".to_owned(),
        Some(value) if value.split(',').any(|word| matches!(word.trim(), "private" | "no-store")) => value.to_owned(),
        Some(value) => format!("{value}, private"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_head;

    #[test]
    fn only_one_asks() {
        for (value, want) in [(None, false), (Some("1"), true), (Some("0"), false), (Some("true"), false)] {
            let fields = value.map(|value| (ASKS, value));
            let request = request_head::tests::head(fields.as_slice());
            assert_eq!(is_asked(&request), want, "{value:?}");
        }
    }

    #[test]
    fn a_shared_cache_keeps_no_answer_with_the_fields() {
        for (kept, want) in [
            (None, "private"),
            (Some("public, max-age=0, must-revalidate"), "public, max-age=0, must-revalidate, private"),
            (Some("no-cache"), "no-cache, private"),
            (Some("no-store"), "no-store"),
            (Some("max-age=1, private"), "max-age=1, private"),
        ] {
            assert_eq!(private(kept), want, "{kept:?}");
        }
    }

    #[test]
    fn fields() {
        assert_eq!(cache_status(Found::Hit), "pinstone; hit");
        assert_eq!(cache_status(Found::Miss("blob")), "pinstone; fwd=miss; detail=blob");
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!(
            timing(&[("resolve", micros(12)), ("manifest", None), ("blob", micros(1_500))]),
            "resolve;dur=0.012, blob;dur=1.500"
        );
    }
}
