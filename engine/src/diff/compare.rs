//! Comparing what a project has published: with each other, or with files that nobody has sent yet. Reads only.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Content, Count, File, Nothing, Pair, Summary, Walk};
use crate::account::Principal;
use crate::blob::BlobRecord;
use crate::content_type;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::hash::BlobHash;
use crate::hex;
use crate::id::ImageId;
use crate::manifest::Settings;
use crate::meta::MetaError;
use crate::name::EnvironmentName;
use crate::path::SitePath;
use crate::plan::{PlanBody, PlanError, PlannedFile, check_texts, off_thread};
use crate::pointers::ProjectRef;
use crate::publish::ProjectSelector;
use crate::queries::LookupError;
use crate::records;
use crate::records::images::GitFacts;

/// What a project has published, as somebody names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Version {
    /// An image.
    Image(ImageId),
    /// What an environment shows.
    Environment(EnvironmentName),
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// The old side.
    From,
    /// The new side.
    To,
}

/// A publish that nobody has begun, as far as it can be compared.
#[derive(Clone, Debug)]
pub struct NewFiles {
    /// Its files, in any order.
    pub files: Vec<PlannedFile>,
    /// The site's settings.
    pub settings: Settings,
    /// Where the content comes from; looked at only for its length.
    pub git: Option<GitFacts>,
    /// Why it would be published; looked at only for its length.
    pub message: Option<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The project or the cursor is none, or a store failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The project does not have what the old side names.
    #[error("the old side cannot be compared")]
    From(#[source] LookupError),
    /// The project does not have what the new side names.
    #[error("the new side cannot be compared")]
    To(#[source] LookupError),
    /// No plan could be made of the files.
    #[error("the files do not make a plan")]
    Files(#[from] PlanError),
}

impl From<MetaError> for DiffError {
    fn from(error: MetaError) -> Self {
        LookupError::from(error).into()
    }
}

impl From<StoreError> for DiffError {
    fn from(error: StoreError) -> Self {
        LookupError::from(error).into()
    }
}

/// One side of a comparison, and what it is.
#[derive(Debug)]
pub struct Side {
    /// The image; nothing for files that nobody has sent, and for an environment that shows nothing.
    pub image: Option<ImageId>,
    /// The environment by which the image was named.
    pub environment: Option<EnvironmentName>,
    content: Box<dyn Content>,
}

impl Side {
    /// The files.
    #[must_use]
    pub fn content(&self) -> &dyn Content {
        &*self.content
    }

    /// Files that nobody has sent, or none at all.
    fn unpublished(content: impl Content + 'static) -> Self {
        Self { image: None, environment: None, content: Box::new(content) }
    }
}

/// Two sides, and what differs.
#[derive(Debug)]
pub struct Comparison {
    /// The old side.
    pub from: Side,
    /// The new side.
    pub to: Side,
    /// All differences, counted.
    pub summary: Summary,
    /// The different blobs among the files that nobody has sent yet which the caller's team does not have: what a publish
    /// sends. Nothing where both sides are published.
    pub missing: Option<Count>,
    start: Walk,
}

impl Comparison {
    fn new(from: Side, to: Side, missing: Option<Count>, position: Option<&Position>) -> Self {
        let summary = Summary::of(from.content(), to.content());
        let start = position.map_or_else(Walk::default, |at| Walk::after(&at.path, from.content(), to.content()));
        Self { from, to, summary, missing, start }
    }

    /// A walk that begins where the cursor of this comparison said.
    #[must_use]
    pub fn walk(&self) -> Walk {
        self.start
    }

    /// The cursor of a comparison that goes on behind `path`. It names both images, so that what an environment shows
    /// meanwhile makes no difference.
    #[must_use]
    pub fn cursor(&self, path: &str) -> String {
        Position { from: self.from.image, to: self.to.image, path: path.into() }.to_string()
    }

    /// Whether `walk` has a difference left.
    #[must_use]
    pub fn has_more(&self, mut walk: Walk) -> bool {
        walk.difference(self.from.content(), self.to.content()).is_some()
    }

    /// The next difference of `walk`, which began as [`Comparison::walk`].
    pub fn next<'s>(&'s self, walk: &mut Walk) -> Option<(super::Change, Pair<'s>)> {
        walk.difference(self.from.content(), self.to.content())
    }
}

/// Where a comparison goes on, and between which images it began.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Position {
    from: Option<ImageId>,
    to: Option<ImageId>,
    path: Box<str>,
}

/// What stands for a side that is no image.
const NO_IMAGE: &str = "-";

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |image: Option<ImageId>| image.map_or(NO_IMAGE.to_owned(), |image| hex::encode(image.as_bytes()));
        write!(f, "{}.{}.{}", digits(self.from), digits(self.to), self.path)
    }
}

impl FromStr for Position {
    type Err = LookupError;

    fn from_str(text: &str) -> Result<Self, LookupError> {
        let image = |text: &str| match text {
            NO_IMAGE => Ok(None),
            digits => hex::decode(digits).map(|id| Some(ImageId::from_bytes(id))).ok_or(LookupError::BadCursor),
        };
        let mut parts = text.splitn(3, '.');
        let (Some(from), Some(to), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(LookupError::BadCursor);
        };
        SitePath::check(path).map_err(|_| LookupError::BadCursor)?;
        Ok(Self { from: image(from)?, to: image(to)?, path: path.into() })
    }
}

impl Engine {
    /// Compares two things that a project has published. `cursor` is a [`Comparison::cursor`]: the comparison goes on
    /// behind its path, between the images that it names.
    ///
    /// # Errors
    ///
    /// Where the project, one of the two or the cursor is unknown, and where a store fails.
    pub async fn compare(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        from: &Version,
        to: &Version,
        cursor: Option<&str>,
    ) -> Result<Comparison, DiffError> {
        let project = self.find_project(caller, project).await?.ok_or(LookupError::ProjectNotFound)?;
        let position: Option<Position> = cursor.map(str::parse).transpose()?;
        let at = position.as_ref();
        let from =
            self.published(project, from, at.map(|at| at.from)).await.map_err(|error| named(error, Which::From))?;
        let to = self.published(project, to, at.map(|at| at.to)).await.map_err(|error| named(error, Which::To))?;
        let (Some(from), Some(to)) = (from, to) else { return Err(LookupError::BadCursor.into()) };
        let compared = off_thread(move || Ok(Comparison::new(from, to, None, position.as_ref()))).await?;
        Ok(compared)
    }

    /// Compares files that nobody has sent yet with something that a project has published, and records nothing.
    ///
    /// `side` says which side the files are. What they consist of has the bounds of a plan. A project or an environment
    /// that is not there yet counts as one without files: a publish would make it.
    ///
    /// # Errors
    ///
    /// Where no plan could be made of the files, the project is another team's, it does not have the image, the cursor is
    /// unknown, or a store fails.
    pub async fn compare_files(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        new: NewFiles,
        side: Which,
        with: &Version,
        cursor: Option<&str>,
    ) -> Result<Comparison, DiffError> {
        let limits = self.limits().clone();
        check_texts(new.settings, new.git.as_ref(), new.message.as_deref(), &limits)?;
        let project = self.project_of_plan(caller, project).await?;
        let position: Option<Position> = cursor.map(str::parse).transpose()?;
        let pinned = position.as_ref().map(|at| match side {
            Which::From => at.to,
            Which::To => at.from,
        });
        let published = match project {
            Some(project) => match self.published(project, with, pinned).await {
                Err(LookupError::EnvironmentNotFound) => None,
                other => other.map_err(|error| named(error, side.other()))?,
            },
            None if matches!(with, Version::Image(_)) => return Err(named(LookupError::ImageNotFound, side.other())),
            None => None,
        };
        let published = published.unwrap_or_else(|| Side {
            environment: match with {
                Version::Environment(environment) => Some(environment.clone()),
                Version::Image(_) => None,
            },
            ..Side::unpublished(Nothing)
        });

        let (files, settings) = (new.files, new.settings);
        let (body, hashes) = off_thread(move || {
            let body = PlanBody::new(crate::plan::checked(files, &limits)?)?;
            let hashes = body.hashes();
            Ok((body, hashes))
        })
        .await?;
        let present = self.present(caller.team, &hashes).await?;
        let compared = off_thread(move || {
            let (files, missing) = Listed::new(body, hashes, present, settings);
            let files = Side::unpublished(files);
            let (from, to) = match side {
                Which::From => (files, published),
                Which::To => (published, files),
            };
            Ok(Comparison::new(from, to, Some(missing), position.as_ref()))
        });
        Ok(compared.await?)
    }

    /// The project that a plan would be for; nothing where it would make one.
    async fn project_of_plan(
        &self,
        caller: &Principal,
        selector: &ProjectSelector,
    ) -> Result<Option<ProjectRef>, DiffError> {
        let ProjectSelector::Name(name) = selector else {
            let found = self.find_project(caller, selector).await?;
            return Ok(Some(found.ok_or(LookupError::ProjectNotFound)?));
        };
        match self.project_called(caller, name).await? {
            found if caller.access.project.is_some() && found.is_none_or(|found| !self.reaches(caller, found)) => {
                Err(LookupError::ProjectNotFound.into())
            }
            Some(found) if found.team != caller.team => Err(PlanError::ProjectTaken.into()),
            found => Ok(found),
        }
    }

    /// What `version` of a project has, or the image that a comparison began with, where it is going on. Nothing where it
    /// began with none.
    async fn published(
        &self,
        project: ProjectRef,
        version: &Version,
        began_with: Option<Option<ImageId>>,
    ) -> Result<Option<Side>, LookupError> {
        let (image, environment) = match (version, began_with) {
            (Version::Image(image), None) => (*image, None),
            (Version::Image(image), Some(began)) if began == Some(*image) => (*image, None),
            (Version::Image(_), Some(_)) => return Err(LookupError::BadCursor),
            (Version::Environment(name), Some(Some(began))) => (began, Some(name.clone())),
            (Version::Environment(_), Some(None)) => return Ok(None),
            (Version::Environment(name), None) => {
                let stored = records::environments::get(self.meta(), project, name).await?;
                let now = self.clock().now();
                let shown = stored.and_then(|stored| stored.record.shows).filter(|shown| !shown.is_expired(now));
                let shown = shown.ok_or(LookupError::EnvironmentNotFound)?;
                (shown.image, Some(name.clone()))
            }
        };
        let manifest = self.manifest_of(project, image).await?;
        Ok(Some(Side { image: Some(image), environment, content: Box::new(manifest) }))
    }
}

impl Which {
    fn other(self) -> Self {
        match self {
            Self::From => Self::To,
            Self::To => Self::From,
        }
    }
}

/// Says which side is meant, where the error is about one.
fn named(error: LookupError, side: Which) -> DiffError {
    match (error, side) {
        (error @ (LookupError::ImageNotFound | LookupError::EnvironmentNotFound), Which::From) => {
            DiffError::From(error)
        }
        (error @ (LookupError::ImageNotFound | LookupError::EnvironmentNotFound), Which::To) => DiffError::To(error),
        (error, _) => error.into(),
    }
}

/// The files of a plan as a side, served as a commit would have them, as far as the team has their bytes.
#[derive(Debug)]
struct Listed {
    files: Vec<PlannedFile>,
    /// The size and the content type of each.
    facts: Vec<(Option<u64>, Option<Arc<str>>)>,
    settings: Settings,
}

impl Listed {
    /// Takes what the index has of each of `hashes`, which are those of `body`; counts those of which it has nothing.
    fn new(
        body: PlanBody,
        hashes: Vec<BlobHash>,
        present: Vec<Option<BlobRecord>>,
        settings: Settings,
    ) -> (Self, Count) {
        let (files, bytes) = body.count_missing(&hashes, &present);
        let missing = Count { files, bytes };
        let known = |(hash, record): (BlobHash, Option<BlobRecord>)| {
            let record = record?;
            Some((hash, (record.size, record.is_utf8)))
        };
        let known: HashMap<BlobHash, (u64, bool)> = hashes.into_iter().zip(present).filter_map(known).collect();
        let files = body.into_files();
        let mut types: HashMap<String, Arc<str>> = HashMap::new();
        let mut facts = Vec::with_capacity(files.len());
        for file in &files {
            let Some((size, is_utf8)) = known.get(&file.blob) else {
                facts.push((file.size, None));
                continue;
            };
            let text = content_type::decide(&file.path, file.content_type.as_deref(), *is_utf8);
            let shared = types.get(&text).cloned().unwrap_or_else(|| {
                let shared: Arc<str> = text.as_str().into();
                types.insert(text, Arc::clone(&shared));
                shared
            });
            facts.push((Some(*size), Some(shared)));
        }
        (Self { files, facts, settings }, missing)
    }
}

impl Content for Listed {
    fn count(&self) -> usize {
        self.files.len()
    }

    fn file(&self, index: usize) -> File<'_> {
        let (file, (size, content_type)) = (&self.files[index], &self.facts[index]);
        File { path: &file.path, blob: file.blob, size: *size, content_type: content_type.as_deref(), hidden: None }
    }

    fn settings(&self) -> Settings {
        self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_text_and_others_are_refused() {
        let (one, other) = (ImageId::from_bytes([1; 16]), ImageId::from_bytes([255; 16]));
        for (from, to) in [(Some(one), Some(other)), (None, Some(one)), (Some(other), None), (None, None)] {
            for path in ["a", "a.b/c.d", "ü/%20", "-", "a.-.b"] {
                let position = Position { from, to, path: path.into() };
                assert_eq!(position.to_string().parse::<Position>().ok(), Some(position), "{path}");
            }
        }
        let digits = "01".repeat(16);
        for wrong in [
            "",
            "a",
            "-.-",
            "-.-.",
            "-.-./a",
            "-.-.a//b",
            "-.-.a\0",
            ".-.a",
            "x.-.a",
            &format!("{digits}0.-.a"),
            &format!("img_{digits}.-.a"),
            &format!("{digits}.{digits}"),
        ] {
            assert!(matches!(wrong.parse::<Position>(), Err(LookupError::BadCursor)), "{wrong:?}");
        }
    }
}
