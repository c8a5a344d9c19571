//! Reading the JSON of a plan, or of a comparison, which is a plan with one more side: one pass from text to the
//! engine's types.
//!
//! A plan may have 64 MiB of JSON, so nothing is built twice: each path and hash is checked where it is met, and the
//! first that is wrong ends the reading, as does the first file beyond the limit. `files` comes in two shapes, and a
//! map would drop a repeated key without a word; here both shapes end in one list, in which the engine finds every path
//! that occurs twice.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use pinstone_engine::Limits;
use pinstone_engine::diff::{NewFiles, Version, Which};
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::ProjectSelector;
use pinstone_engine::records::images::GitFacts;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor, value,
};

use crate::body::{json_text, shape_error};
use crate::error::{ApiError, ErrorCode, too_many_files};
use crate::json_shape::{Count, Object, count};
use crate::{input, wire};

/// In which shape a plan names its files; its answer has the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// One object a file.
    List,
    /// One object a file, with a SHA-256 digest beside its hash: as the protocol's first client sends it.
    ListWithSha256,
    /// Path to hash.
    Map,
}

/// Files that are to be compared with something published.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) project: ProjectSelector,
    pub(crate) files: NewFiles,
    /// Which side the files are.
    pub(crate) side: Which,
    /// The other side.
    pub(crate) with: Version,
    /// How many differences are asked for, where not all are.
    pub(crate) limit: Option<u64>,
    pub(crate) cursor: Option<String>,
}

/// Reads a plan.
pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Result<(NewPlan, Shape), ApiError> {
    let sent = read(bytes, limits, Call::Plan)?;
    let project = input::project_name(&sent.project)?;
    let NewFiles { files, settings, git, message } = sent.files;
    Ok((NewPlan { project, files, git, message, settings }, sent.shape))
}

/// Reads a comparison: a plan with a few fields more.
pub(crate) fn parse_comparison(bytes: &[u8], limits: &Limits) -> Result<Comparison, ApiError> {
    let sent = read(bytes, limits, Call::Comparison)?;
    let (side, with) = match (input::version(sent.from.as_deref())?, input::version(sent.to.as_deref())?) {
        (Some(from), None) => (Which::To, from),
        (None, Some(to)) => (Which::From, to),
        (None, None) => return Err(ErrorCode::SideRequired.into()),
        (Some(_), Some(_)) => {
            let message = "`from` and `to` are both named, and the files are one of the two sides";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    if sent.limit == Some(0) {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "`limit` is not a whole number from 1"));
    }
    let project = input::project(Some(&*sent.project), None)?;
    let cursor = sent.cursor.filter(|cursor| !cursor.is_empty());
    Ok(Comparison { project, files: sent.files, side, with, limit: sent.limit, cursor })
}

/// Which call a body is for. Fields of the other one are unknown to it, and ignored as such.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Call {
    Plan,
    Comparison,
}

/// What a body says.
struct Sent<'de> {
    project: Cow<'de, str>,
    files: NewFiles,
    shape: Shape,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
    cursor: Option<String>,
}

fn read<'b>(bytes: &'b [u8], limits: &Limits, call: Call) -> Result<Sent<'b>, ApiError> {
    let text = json_text(bytes, limits.json_depth)?;
    let fault = Fault::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let sent = PlanSeed { limit: limits.files, call, fault: &fault }.deserialize(&mut reader);
    match sent.and_then(|sent| reader.end().map(|()| sent)) {
        Ok(sent) => Ok(sent),
        Err(error) => Err(fault.0.take().unwrap_or_else(|| shape_error(&error))),
    }
}

/// What ended the reading: serde's own errors are texts, and ours have codes.
#[derive(Default)]
struct Fault(Cell<Option<ApiError>>);

impl Fault {
    fn end<E: Error>(&self, error: impl Into<ApiError>) -> E {
        self.0.set(Some(error.into()));
        E::custom("refused")
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Project,
    Files,
    Git,
    Message,
    Settings,
    From,
    To,
    Limit,
    Cursor,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy)]
struct PlanSeed<'f> {
    limit: u64,
    call: Call,
    fault: &'f Fault,
}

impl<'de> DeserializeSeed<'de> for PlanSeed<'_> {
    type Value = Sent<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PlanSeed<'_> {
    type Value = Sent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plan")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut project: Option<Text<'de>> = None;
        let mut files = None;
        let mut git: Option<wire::Git> = None;
        let mut message: Option<String> = None;
        let mut settings: Option<wire::SiteSettings> = None;
        let (mut from, mut to, mut limit, mut cursor) = (None, None, None, None);
        let compares = self.call == Call::Comparison;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Project if project.is_some() => return Err(A::Error::duplicate_field("project")),
                Field::Project => project = Some(map.next_value()?),
                Field::Files if files.is_some() => return Err(A::Error::duplicate_field("files")),
                Field::Files => files = Some(map.next_value_seed(FilesSeed(self))?),
                Field::Git => git = map.next_value::<Option<Object<_>>>()?.map(|Object(git)| git),
                Field::Message => message = map.next_value()?,
                Field::Settings => settings = map.next_value::<Option<Object<_>>>()?.map(|Object(sent)| sent),
                Field::From if compares => from = map.next_value()?,
                Field::To if compares => to = map.next_value()?,
                Field::Limit if compares => limit = map.next_value::<Option<Count>>()?.map(|Count(limit)| limit),
                Field::Cursor if compares => cursor = map.next_value()?,
                Field::From | Field::To | Field::Limit | Field::Cursor | Field::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let project = project.ok_or_else(|| A::Error::missing_field("project"))?;
        let (files, shape) = files.ok_or_else(|| A::Error::missing_field("files"))?;
        let settings =
            site_settings(&settings.unwrap_or_default()).map_err(|error| self.fault.end::<A::Error>(error))?;
        let git = git.map(|git| GitFacts { commit: git.commit, branch: git.branch, message: git.message });
        let files = NewFiles { files, settings, git, message };
        Ok(Sent { project: project.0, files, shape, from, to, limit, cursor })
    }
}

struct FilesSeed<'f>(PlanSeed<'f>);

impl FilesSeed<'_> {
    fn count<E: Error>(&self, files: &[PlannedFile]) -> Result<(), E> {
        if files.len() as u64 > self.0.limit {
            return Err(self.0.fault.end(too_many_files(self.0.limit)));
        }
        Ok(())
    }

    fn file<E: Error>(
        &self,
        path: Cow<'_, str>,
        blob: &str,
        size: Option<u64>,
        content_type: Option<String>,
    ) -> Result<PlannedFile, E> {
        let fault = self.0.fault;
        let path = SitePath::new(path)
            .map_err(|error| fault.end::<E>(ApiError::new(ErrorCode::InvalidPath, error.to_string())))?;
        let blob = blob.parse().map_err(|_| fault.end::<E>(ErrorCode::InvalidHash))?;
        Ok(PlannedFile { path, blob, size, content_type })
    }
}

impl<'de> DeserializeSeed<'de> for FilesSeed<'_> {
    type Value = (Vec<PlannedFile>, Shape);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FilesSeed<'_> {
    type Value = (Vec<PlannedFile>, Shape);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files, or an object of paths and hashes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut files, mut shape) = (Vec::new(), Shape::List);
        while let Some(Object(file)) = list.next_element::<Object<File<'de>>>()? {
            if file.sha256.as_ref().is_some_and(|digest| !is_sha256(digest)) {
                return Err(self.0.fault.end(ErrorCode::InvalidHash));
            }
            if file.sha256.is_some_and(|digest| !digest.is_empty()) {
                shape = Shape::ListWithSha256;
            }
            files.push(self.file(file.path, &file.blake3, Some(file.size), file.content_type)?);
            self.count(&files)?;
        }
        Ok((files, shape))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut files = Vec::new();
        while let Some((path, hash)) = map.next_entry::<Text<'de>, Text<'de>>()? {
            let path = match path.0.strip_prefix('/') {
                Some(relative) => Cow::Owned(relative.to_owned()),
                None => path.0,
            };
            files.push(self.file(path, &hash.0, None, None)?);
            self.count(&files)?;
        }
        Ok((files, Shape::Map))
    }
}

/// Text that is copied only where it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// One object of the list, as [`wire::PlanFile`] has it.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    blake3: Cow<'a, str>,
    #[serde(default, borrow)]
    sha256: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "count")]
    size: u64,
    #[serde(default)]
    content_type: Option<String>,
}

/// Whether a text can be a SHA-256 digest: 44 characters of Base64, or 64 hex digits. It is taken again at ingest, so
/// what it says is not needed.
fn is_sha256(text: &str) -> bool {
    let base64 = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte));
    match text.len() {
        0 => true,
        44 => text.strip_suffix('=').is_some_and(base64),
        64 => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    }
}

/// The settings of a site. A value that nobody knows is refused here, one that this version does not serve by the
/// engine.
fn site_settings(sent: &wire::SiteSettings) -> Result<Settings, ApiError> {
    Ok(Settings {
        html: setting("html", sent.html.as_deref())?,
        not_found: setting("not_found", sent.not_found.as_deref())?,
        profile: setting("profile", sent.profile.as_deref())?,
    })
}

fn setting<'a, T: Default + Deserialize<'a>>(name: &'static str, text: Option<&'a str>) -> Result<T, ApiError> {
    let Some(text) = text else { return Ok(T::default()) };
    let text: value::StrDeserializer<'a, value::Error> = text.into_deserializer();
    T::deserialize(text).map_err(|_| {
        ApiError::new(ErrorCode::UnsupportedSetting, format!("the setting `{name}` has a value that nobody knows"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn read(json: &str) -> Result<(NewPlan, Shape), ApiError> {
        parse(json.as_bytes(), &Limits { files: 3, ..Limits::default() })
    }

    fn code_of(json: &str) -> String {
        let error = read(&json.replace("HASH", HASH)).map(|(_, shape)| shape).unwrap_err();
        format!("{error:?}")
    }

    #[test]
    fn a_comparison_is_a_plan_with_one_side_more() {
        let limits = Limits { files: 3, ..Limits::default() };
        let of = |more: &str| {
            let json = format!(r#"{{"project":"my-site","files":{{"/a":"{HASH}"}},"message":"m"{more}}}"#);
            parse_comparison(json.as_bytes(), &limits)
        };
        let image = format!("img_{}", "0f".repeat(16));
        let prod = || Version::Environment("prod".parse().unwrap());
        for (more, side, with, limit) in [
            (r#","from":"prod""#, Which::To, prod(), None),
            (r#","to":"prod","from":null,"limit":5,"cursor":"""#, Which::From, prod(), Some(5)),
            (&format!(r#","from":"","to":"{image}""#), Which::From, Version::Image(image.parse().unwrap()), None),
        ] {
            let read = of(more).unwrap();
            assert_eq!((read.side, read.with, read.limit, read.cursor), (side, with, limit, None), "{more}");
            assert_eq!((read.files.files.len(), read.files.message.as_deref()), (1, Some("m")), "{more}");
        }
        for (more, want) in [
            ("", "SideRequired"),
            (r#","from":"""#, "SideRequired"),
            (r#","from":"a","to":"b""#, "InvalidRequest"),
            (r#","from":"prod","limit":0"#, "InvalidRequest"),
            (r#","from":"prod","limit":-1"#, "InvalidRequest"),
            (r#","from":"prod","limit":"1""#, "InvalidRequest"),
            (r#","from":7"#, "InvalidRequest"),
            (r#","from":"img_7""#, "InvalidImageId"),
            (r#","from":"a..b""#, "InvalidEnvironment"),
            (r#","from":"prod","files":[]"#, "InvalidRequest"),
        ] {
            let error = format!("{:?}", of(more).unwrap_err());
            assert!(error.contains(want), "{more}: {error}");
        }
        // They are nothing to a plan, whatever they are.
        let plan =
            format!(r#"{{"project":"my-site","files":{{"/a":"{HASH}"}},"from":7,"to":{{}},"limit":"x","cursor":[]}}"#);
        assert!(parse(plan.as_bytes(), &limits).is_ok());
    }

    #[test]
    fn a_sha256_that_can_be_none_is_refused() {
        let hex = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        for (sent, ok) in [
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", true),
            (hex, true),
            ("", true),
            ("x", false),
            (&hex[1..], false),
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU!", false),
        ] {
            let file = format!(r#"{{"path":"a","blake3":"{HASH}","sha256":"{sent}","size":7}}"#);
            let plan = read(&format!(r#"{{"project":"my-site","files":[{file}]}}"#));
            assert_eq!(plan.is_ok(), ok, "{sent}");
        }
    }

    #[test]
    fn both_shapes_are_read() {
        let list = format!(
            r#"{{"more":[{{}}],"files":[{{"path":"a\u002fb.html","blake3":"{HASH}","sha256":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","size":7,"x":1}}],
                "project":"my-site","message":"m","git":{{"commit":"c","branch":null}},"settings":{{"html":"keep"}}}}"#
        );
        let (plan, shape) = read(&list).unwrap();
        assert_eq!((shape, plan.files.len(), &*plan.files[0].path), (Shape::ListWithSha256, 1, "a/b.html"));
        assert_eq!((plan.files[0].size, plan.message.as_deref()), (Some(7), Some("m")));
        let (plan, shape) =
            read(&format!(r#"{{"project":"my-site","files":{{"/a":"{HASH}","b":"{HASH}"}}}}"#)).unwrap();
        assert_eq!((shape, &*plan.files[0].path, &*plan.files[1].path), (Shape::Map, "a", "b"));
        assert_eq!(plan.files[0].size, None);
    }

    #[test]
    fn a_map_keeps_what_it_repeats() {
        for json in [r#"{"/a":"HASH","/a":"HASH"}"#, r#"{"/a":"HASH","a":"HASH"}"#] {
            let json = format!(r#"{{"project":"my-site","files":{}}}"#, json.replace("HASH", HASH));
            assert_eq!(read(&json).unwrap().0.files.len(), 2, "{json}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_code() {
        let file = |fields: &str| format!(r#"{{"project":"my-site","files":[{{{fields}}}]}}"#);
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        for (json, want) in [
            (file(r#""path":"../a","blake3":"HASH","size":1"#), "InvalidPath"),
            (file(r#""path":"/a","blake3":"HASH","size":1"#), "InvalidPath"),
            (file(r#""path":"a\u0000","blake3":"HASH","size":1"#), "InvalidPath"),
            (file(r#""path":"a","blake3":"xyz","size":1"#), "InvalidHash"),
            (file(r#""path":"a","blake3":"HASH","size":-1"#), "InvalidRequest"),
            (file(r#""path":"a","blake3":"HASH","size":1.5"#), "InvalidRequest"),
            (file(r#""path":"a","blake3":"HASH""#), "InvalidRequest"),
            (file(r#""path":"\ud800","blake3":"HASH","size":1"#), "InvalidJson"),
            (r#"{"project":"my-site","files":{"//a":"HASH"}}"#.into(), "InvalidPath"),
            (
                r#"{"project":"my-site","files":{"1":"HASH","2":"HASH","3":"HASH","4":"HASH","5":1}}"#.into(),
                "TooManyFiles",
            ),
            (r#"{"project":"my-site","files":null}"#.into(), "InvalidRequest"),
            (r#"{"project":"my-site"}"#.into(), "InvalidRequest"),
            (r#"{"project":"my-site","files":[],"files":[]}"#.into(), "InvalidRequest"),
            (r#"{"project":"","files":[]}"#.into(), "ProjectRequired"),
            (r#"{"project":"../x","files":[]}"#.into(), "InvalidProject"),
            (r#"{"project":"my-site","files":[],"settings":{"html":"x"}}"#.into(), "UnsupportedSetting"),
            (r#"{"project":"my-site","files":[]} x"#.into(), "InvalidJson"),
            ("".into(), "InvalidJson"),
            ("[]".into(), "InvalidRequest"),
            (deep, "JsonTooDeep"),
        ] {
            assert!(code_of(&json).contains(want), "{json}: {}", code_of(&json));
        }
        let error =
            parse(b"{\"project\":\"my-site\",\"files\":{\"\xff\":\"\"}}", &Limits::default()).map(|_| ()).unwrap_err();
        assert!(format!("{error:?}").contains("InvalidJson"), "{error:?}");
    }
}
