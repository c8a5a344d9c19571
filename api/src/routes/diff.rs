//! `GET` and `POST /diff`: what differs between two things that a project has published, or between one of them and files
//! that nobody has sent yet.
//!
//! An answer can list every file of both sides, so it is written while it is sent: what it holds in memory is the two
//! sides and one piece of its text.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use pinstone_engine::diff::{self, Comparison, Pair, Side, Walk};
use pinstone_engine::manifest::Settings;
use serde::Serialize;

use crate::auth::Caller;
use crate::body::{blocking, to_the_end};
use crate::error::ApiError;
use crate::input::ReadQuery;
use crate::plan_body;
use crate::routes::plan::gather_files;
use crate::state::{ApiState, LISTING};
use crate::{respond, wire};

/// What two published sides may hold in memory, in bytes: their manifests, and the hashes of what differs. Measured with
/// 200,000 files a side and paths of 33 bytes: 51 MiB where all files differ, 66 MiB where no path is in both. Longer
/// paths weigh more.
const TWO_SIDES: u64 = 5 * LISTING;

/// What a comparison may hold in memory for each byte of its JSON: the text, the files, their index, what is known of them,
/// and the hashes of what differs. Measured with 200,000 files that all differ from an image of as many: a server grew by
/// 167 to 210 MiB in four runs, for 24 MiB of JSON.
const FILES_WEIGHT: u64 = 9;

/// How much text of an answer is made at a time, in bytes: so much that few hops to another thread are needed.
const PIECE: usize = 128 << 10;

/// How an answer ends that lists nothing. What is listed takes its place.
const NO_ITEMS: &str = r#"],"next_cursor":null}"#;

/// Compares two images or environments.
pub(crate) async fn published(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(1000, 10_000)?;
    let project = query.project()?;
    let (from, to) = query.sides()?;
    let cursor = query.cursor().map(str::to_owned);
    let memory = state.plan_memory(TWO_SIDES).await?;
    // The permit stays with the two sides, also where the client leaves while they are walked.
    to_the_end(async move {
        let compared = state.engine().compare(&caller, &project, &from, &to, cursor.as_deref()).await?;
        Ok(respond::holding(answer(compared, Some(limit as u64)), memory))
    })
    .await
}

/// Compares files with an image or an environment, and records nothing.
///
/// The body is a plan's, and counted, bounded and read as one.
pub(crate) async fn files(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let (bytes, memory) = gather_files(&state, request, FILES_WEIGHT, LISTING).await?;
    let limits = state.engine().limits().clone();
    // The permit goes along: a client that leaves does not stop the thread, so the bytes are still held.
    let (asked, memory) = blocking(move || (plan_body::parse_comparison(&bytes, &limits), memory)).await?;
    let plan_body::Comparison { project, files, side, with, limit, cursor } = asked?;
    to_the_end(async move {
        let compared = state.engine().compare_files(&caller, &project, files, side, &with, cursor.as_deref()).await?;
        Ok(respond::holding(answer(compared, limit), memory))
    })
    .await
}

/// The answer with at most `limit` differences, written as it is sent.
fn answer(compared: Comparison, limit: Option<u64>) -> Response {
    let mut answer = Response::new(Body::from_stream(pieces(Text::new(compared, limit))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The pieces of a text. Each is made where it may take its time: between two differences can be any number of files
/// that are alike.
fn pieces(text: Text) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Send {
    stream::try_unfold(text, |mut text| async move {
        if text.is_done {
            return Ok(None);
        }
        let (piece, text) = tokio::task::spawn_blocking(move || (text.piece(), text)).await?;
        Ok(Some((piece, text)))
    })
}

/// The JSON of an answer, as far as it is not written yet.
struct Text {
    compared: Arc<Comparison>,
    walk: Walk,
    /// How many differences may still be listed.
    left: u64,
    /// The path of the last one that was listed.
    last: Option<String>,
    is_done: bool,
}

impl Text {
    fn new(compared: Comparison, limit: Option<u64>) -> Self {
        let walk = compared.walk();
        Self { compared: Arc::new(compared), walk, left: limit.unwrap_or(u64::MAX), last: None, is_done: false }
    }

    /// Writes on, up to a good piece, and to the end where that comes before.
    fn piece(&mut self) -> Bytes {
        let compared = Arc::clone(&self.compared);
        let mut out = Vec::with_capacity(PIECE + 4096);
        let mut is_first = self.last.is_none();
        if is_first {
            put(&mut out, &head(&compared));
            out.truncate(out.len() - NO_ITEMS.len());
        }
        let mut last = None;
        while out.len() < PIECE && self.left > 0 {
            let Some((_, pair)) = compared.next(&mut self.walk) else { break };
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            put(&mut out, &wire::DiffItem::from(&pair));
            last = Some(pair.path());
            self.left -= 1;
        }
        if let Some(path) = last {
            self.last = Some(path.to_owned());
        }
        // A piece that is not full ends because nothing is left, or may be listed.
        if out.len() < PIECE || self.left == 0 {
            let cursor =
                self.last.as_deref().filter(|_| compared.has_more(self.walk)).map(|path| compared.cursor(path));
            out.extend_from_slice(br#"],"next_cursor":"#);
            put(&mut out, &cursor);
            out.extend_from_slice(b"}\n");
            self.is_done = true;
        }
        out.into()
    }
}

/// The answer without its differences.
fn head(compared: &Comparison) -> wire::DiffAnswer {
    let summary = &compared.summary;
    wire::DiffAnswer {
        from: side(&compared.from, summary.from_bytes()),
        to: side(&compared.to, summary.to_bytes()),
        summary: summary.into(),
        missing: compared.missing.map(|missing| missing.files),
        missing_bytes: compared.missing.map(|missing| missing.bytes),
        items: Vec::new(),
        next_cursor: None,
    }
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("the types of answers have string keys and no failing serializer");
}

fn side(side: &Side, total_size: u64) -> wire::DiffSide {
    wire::DiffSide {
        image_id: side.image.map(|image| image.to_string()),
        environment: side.environment.as_ref().map(ToString::to_string),
        file_count: side.content().count() as u64,
        total_size,
        settings: settings(side.content().settings()),
    }
}

/// The settings as plans have them.
fn settings(settings: Settings) -> wire::SiteSettings {
    fn text(value: impl Serialize) -> Option<String> {
        match serde_json::to_value(value) {
            Ok(serde_json::Value::String(text)) => Some(text),
            _ => None,
        }
    }

    wire::SiteSettings {
        html: text(settings.html),
        not_found: text(settings.not_found),
        profile: text(settings.profile),
    }
}

impl From<&diff::Summary> for wire::DiffSummary {
    fn from(summary: &diff::Summary) -> Self {
        Self {
            added: summary.added.files,
            removed: summary.removed.files,
            changed: summary.changed_to.files,
            unchanged: summary.unchanged.files,
            retyped: summary.retyped,
            moved: summary.moved,
            added_bytes: summary.added.bytes,
            removed_bytes: summary.removed.bytes,
            changed_from_bytes: summary.changed_from.bytes,
            changed_to_bytes: summary.changed_to.bytes,
            unchanged_bytes: summary.unchanged.bytes,
            new_blobs: summary.new.files,
            new_bytes: summary.new.bytes,
            settings_changed: summary.settings_changed,
        }
    }
}

impl From<&Pair<'_>> for wire::DiffItem {
    fn from(pair: &Pair<'_>) -> Self {
        let file = |file: diff::File<'_>| wire::DiffFile {
            hash: file.blob.to_string(),
            size: file.size,
            content_type: file.content_type.map(str::to_owned),
            hidden: file.hidden == Some(true),
        };
        Self {
            path: pair.path().to_owned(),
            change: match (&pair.from, &pair.to) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            }
            .to_owned(),
            from: pair.from.map(file),
            to: pair.to.map(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_differences_go() {
        let side = || wire::DiffSide {
            image_id: None,
            environment: None,
            file_count: 0,
            total_size: 0,
            settings: settings(Settings::default()),
        };
        let empty = wire::DiffAnswer {
            from: side(),
            to: side(),
            summary: wire::DiffSummary::default(),
            missing: None,
            missing_bytes: None,
            items: Vec::<wire::DiffItem>::new(),
            next_cursor: None,
        };
        let text = serde_json::to_string(&empty).unwrap();
        assert!(text.ends_with(&format!("[{NO_ITEMS}")), "{text}");
        assert_eq!(serde_json::from_str::<wire::DiffAnswer>(&text).unwrap().from, side());
        let named = settings(Settings::default());
        assert_eq!((named.html.as_deref(), named.not_found.as_deref()), (Some("keep"), Some("404-page")));
    }
}
