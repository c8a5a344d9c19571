//! Moving a pointer: release, rollback, preview and delete are the same checked commit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProjectSelector;
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::id::ImageId;
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::{EnvironmentName, ProjectName};
use crate::plan::{ATTEMPTS, event_bytes, pause};
use crate::pointers::{PointerEvent, ProjectRef, Shown};
use crate::records::environments::EnvironmentRecord;
use crate::records::idempotency::{IdempotencyKey, Known, Once};
use crate::records::images::ImageRecord;
use crate::records::releases::{Action, LogCounter, LogRecord, ReleaseRecord};
use crate::records::{self, Stored, Unknown, encode};

/// How far back a rollback without an image looks for the image before.
const ROLLBACK_HORIZON: usize = 1000;

/// An environment that is to show an image.
#[derive(Clone, Debug)]
pub struct ReleaseRequest {
    /// The project.
    pub project: ProjectSelector,
    /// The environment.
    pub environment: EnvironmentName,
    /// The image; without it, the latest commit's, or for a rollback the one before.
    pub image: Option<ImageId>,
    /// What the environment must show now: `Some(None)` is nothing, `None` is anything.
    pub expected: Option<Option<ImageId>>,
    /// Why.
    pub message: Option<String>,
}

/// What an environment shows after a release.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Released {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What it shows.
    pub image: ImageId,
    /// What it showed before.
    pub previous: Option<ImageId>,
    /// The release's number.
    pub number: u64,
    /// What kind of move it was.
    pub action: Action,
    /// Whether anything changed.
    pub changed: bool,
    /// When the release was made.
    pub released_at: UnixMillis,
}

/// Why a pointer was not moved. Whichever it is, the environment shows what it showed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The project has no such image.
    #[error("the project has no such image")]
    ImageNotFound,
    /// The project has no image at all.
    #[error("nothing was committed to the project")]
    NothingCommitted,
    /// The environment shows nothing.
    #[error("the environment shows nothing")]
    EnvironmentNotFound,
    /// There is no earlier image.
    #[error("the environment showed no other image before")]
    NothingToRollBackTo,
    /// The image is no longer kept.
    #[error("the image is no longer kept")]
    ImageCollected,
    /// The environment does not show what was expected.
    #[error("the environment does not show the expected image")]
    Conflict,
    /// The name is a preview's, which only another preview moves.
    #[error("the environment is a preview")]
    NameIsPreview,
    /// The name is that of an environment that lasts, or only such a one can have it.
    #[error("the slug is the name of an environment that lasts")]
    NameIsEnvironment,
    /// There is no preview of this name.
    #[error("the project has no such preview")]
    PreviewNotFound,
    /// A preview cannot last for so short or so long.
    #[error("a preview lasts {} to {} seconds", shortest.as_secs(), longest.as_secs())]
    Lifetime {
        /// The shortest time.
        shortest: Duration,
        /// The longest time.
        longest: Duration,
    },
    /// Rolling back to "the one before" twice would go back two steps, so a retry must be told apart.
    #[error("a rollback without an image needs an idempotency key")]
    KeyNeeded,
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The message is too long.
    #[error("a message has more than {limit} bytes")]
    MessageTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The token is for another environment.
    #[error("the token is for another environment")]
    OutOfScope,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(ReleaseError);

/// What a pointer is to show, before it is known which image that is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Image(ImageId),
    LatestCommit,
    OneBefore,
    Nothing,
}

/// Which kind of environment a move is about. Those that last and previews share one namespace, and neither is taken
/// for the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// One that lasts.
    Lasting,
    /// A preview that is over so long after the move.
    Preview(Duration),
    /// A preview, whenever it is or was over.
    AnyPreview,
    /// Whichever it is.
    Any,
}

impl Kind {
    /// Whether a move of this kind may be made while the name stands for `current`.
    fn check(self, current: Option<&Shown>) -> Result<(), ReleaseError> {
        match (self, current.map(Shown::is_preview)) {
            (Self::Lasting, Some(true)) => Err(ReleaseError::NameIsPreview),
            (Self::Preview(_), Some(false)) => Err(ReleaseError::NameIsEnvironment),
            (Self::AnyPreview, Some(false) | None) => Err(ReleaseError::PreviewNotFound),
            _ => Ok(()),
        }
    }

    fn lifetime(self) -> Option<Duration> {
        match self {
            Self::Preview(lifetime) => Some(lifetime),
            Self::Lasting | Self::AnyPreview | Self::Any => None,
        }
    }
}

/// A move of a pointer that is to be made.
pub(super) struct Move<'m> {
    pub(super) action: Action,
    pub(super) kind: Kind,
    pub(super) target: Target,
    pub(super) expected: Option<Option<ImageId>>,
    pub(super) message: Option<&'m str>,
    pub(super) once: Option<Once>,
}

/// What the rows of a move are made of.
#[derive(Clone, Copy)]
pub(crate) struct MoveRows<'m> {
    /// The environment as it was, where it was there.
    pub(crate) before: Option<&'m EnvironmentRecord>,
    /// What is shown from then on.
    pub(crate) image: Option<&'m ImageRecord>,
    /// The move.
    pub(crate) release: &'m ReleaseRecord,
    /// The number of the last row of the project's log.
    pub(crate) last: u64,
}

/// What a move did; nothing is shown after a delete.
pub(super) struct Moved {
    pub(super) record: ReleaseRecord,
    pub(super) changed: bool,
}

impl Engine {
    /// Makes an environment show an image; the environment comes into being with its first release.
    ///
    /// # Errors
    ///
    /// Where the project or image is unknown, the environment does not show what was expected, or a store fails.
    pub async fn release(
        &self,
        caller: &Principal,
        request: ReleaseRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Released, ReleaseError> {
        let target = request.image.map_or(Target::LatestCommit, Target::Image);
        self.move_for(caller, request, Action::Release, target, key).await
    }

    /// Makes an environment show an earlier image.
    ///
    /// Without an image it is the one before: what the environment showed before the current image was first released.
    /// Rolling back again goes back further.
    ///
    /// # Errors
    ///
    /// As [`Engine::release`], and [`ReleaseError::KeyNeeded`] where neither an image nor an idempotency key is given.
    pub async fn rollback(
        &self,
        caller: &Principal,
        request: ReleaseRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Released, ReleaseError> {
        if request.image.is_none() && key.is_none() {
            return Err(ReleaseError::KeyNeeded);
        }
        let target = request.image.map_or(Target::OneBefore, Target::Image);
        self.move_for(caller, request, Action::Rollback, target, key).await
    }

    /// Makes an environment show nothing. Its numbers go on where it comes back.
    ///
    /// # Errors
    ///
    /// Where the environment shows nothing already, or a store fails.
    pub async fn delete_environment(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        environment: &EnvironmentName,
    ) -> Result<(), ReleaseError> {
        let project = self.find_project(caller, project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        self.move_pointer(caller, project, environment, Move::away(Kind::Any)).await.map(drop)
    }

    /// Refuses the name of a preview, to which nothing can be released.
    pub(crate) async fn check_lasting(
        &self,
        project: ProjectRef,
        environment: &EnvironmentName,
    ) -> Result<(), ReleaseError> {
        let stored = records::environments::get(self.meta(), project, environment).await?;
        let now = self.clock().now();
        let shown = stored.and_then(|stored| stored.record.shows).filter(|shown| !shown.has_lapsed(now));
        Kind::Lasting.check(shown.as_ref())
    }

    async fn move_for(
        &self,
        caller: &Principal,
        request: ReleaseRequest,
        action: Action,
        target: Target,
        key: Option<&IdempotencyKey>,
    ) -> Result<Released, ReleaseError> {
        let limit = self.limits().message_length;
        if request.message.as_ref().is_some_and(|message| message.len() > limit) {
            return Err(ReleaseError::MessageTooLong { limit });
        }
        let project = self.find_project(caller, &request.project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        let asked = (project.project, &request.environment, request.image, request.expected, &request.message);
        let once = key.map(|key| Once::new(caller.team, caller.user, key, action.as_str(), &asked));
        let (expected, message) = (request.expected, request.message.as_deref());
        let movement = Move { action, kind: Kind::Lasting, target, expected, message, once };
        let moved = self.move_pointer(caller, project, &request.environment, movement).await?;
        let name = records::projects::get(self.meta(), project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        Ok(Released {
            project: name.record.name,
            environment: moved.record.environment,
            image: moved.record.image.ok_or(ReleaseError::EnvironmentNotFound)?,
            previous: moved.record.previous,
            number: moved.record.number,
            action: moved.record.action,
            changed: moved.changed,
            released_at: moved.record.at,
        })
    }

    /// Moves a pointer, by one checked commit, and waits until this process serves what it shows.
    pub(super) async fn move_pointer(
        &self,
        caller: &Principal,
        project: ProjectRef,
        environment: &EnvironmentName,
        movement: Move<'_>,
    ) -> Result<Moved, ReleaseError> {
        if !caller.access.moves(environment) {
            return Err(ReleaseError::OutOfScope);
        }
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let mut stale = None;
            if let Some(once) = &movement.once {
                match once.look::<(ReleaseRecord, bool)>(self.meta(), now).await? {
                    Known::Done((record, changed)) => {
                        self.catch_up_with_all().await?;
                        return Ok(Moved { record, changed });
                    }
                    Known::OtherRequest => return Err(ReleaseError::KeyReused),
                    Known::New(in_the_way) => stale = in_the_way,
                }
            }
            let stored = records::environments::get(self.meta(), project, environment).await?;
            let current = stored.as_ref().and_then(|stored| stored.record.shows.as_ref());
            // A preview that is no longer kept has no claim to its name; only who deletes it still finds it.
            let current = current.filter(|shown| movement.action == Action::Delete || !shown.has_lapsed(now));
            movement.kind.check(current)?;
            let shown = current.map(|shown| shown.image);
            if movement.expected.is_some_and(|expected| expected != shown) {
                return Err(ReleaseError::Conflict);
            }
            let image = self.image_for(project, environment, movement.target, shown).await?;
            let lifetime = movement.kind.lifetime();
            let moved = match (&image, &stored) {
                // A preview of the same image is renewed, so that it changes all the same.
                (Some(image), Some(stored)) if shown == Some(image.image) && lifetime.is_none() => {
                    self.unchanged(project, environment, stored.record.number, image.image).await?
                }
                _ => Moved {
                    record: ReleaseRecord {
                        number: stored.as_ref().map_or(0, |stored| stored.record.number) + 1,
                        environment: environment.clone(),
                        action: movement.action,
                        image: image.as_ref().map(|image| image.image),
                        previous: shown,
                        at: now,
                        user: caller.user,
                        author: caller.name.clone(),
                        message: movement.message.map(str::to_owned),
                        expires_at: lifetime.map(|lifetime| now.plus(lifetime)),
                        unknown: Unknown::new(),
                    },
                    changed: true,
                },
            };
            let mut commit = Commit::new();
            if moved.changed {
                commit = self.commit_of_move(caller, project, stored.as_ref(), image.as_ref(), &moved.record).await?;
            }
            if let Some(once) = &movement.once {
                commit = once.record(commit, stale.as_ref(), &(&moved.record, moved.changed), now);
            } else if !moved.changed {
                // Whoever made it so may not have been answered yet.
                self.catch_up_with_all().await?;
                return Ok(moved);
            }
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                // The position is that of the whole feed: also what somebody else made so is served then.
                self.catch_up(position).await?;
                return Ok(moved);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// The commit that moves a pointer: checks, pointer, release, log, audit and event together.
    async fn commit_of_move(
        &self,
        caller: &Principal,
        project: ProjectRef,
        stored: Option<&Stored<EnvironmentRecord>>,
        image: Option<&ImageRecord>,
        release: &ReleaseRecord,
    ) -> Result<Commit, ReleaseError> {
        let counter_key = records::releases::log_counter_key(project);
        let counter: Option<Stored<LogCounter>> =
            records::read(self.meta(), counter_key.clone(), "release counter").await?;
        let last = counter.as_ref().map_or(0, |counter| counter.record.last);
        let unchanged = |revision| Check::Revision(revision);
        let environment_key = records::environments::key(project, &release.environment);
        let mut commit = Commit::new()
            .check(environment_key, stored.map_or(Check::Absent, |stored| unchanged(stored.revision)))
            .check(counter_key, counter.map_or(Check::Absent, |counter| unchanged(counter.revision)));
        if let Some(image) = image {
            commit = commit.check(records::images::key(project, image.image), Check::Exists);
        }
        let before = stored.map(|stored| &stored.record);
        Ok(self.record_move(commit, caller, project, MoveRows { before, image, release, last }))
    }

    /// Adds to `commit` the rows of a move of a pointer: the environment's, the release's, the log's and the audit's,
    /// and the event. The checks are the caller's.
    pub(crate) fn record_move(
        &self,
        commit: Commit,
        caller: &Principal,
        project: ProjectRef,
        rows: MoveRows<'_>,
    ) -> Commit {
        let MoveRows { before, image, release, last } = rows;
        // Whole seconds are all that `Last-Modified` has. One second later than its predecessor, however fast releases
        // follow one another and whatever was deleted between, so that a client that holds only a date never keeps the
        // wrong page.
        let earliest = before.map_or(0, |before| (before.last_modified.as_secs() + 1) * 1000);
        let replaced = before.and_then(|before| before.shows.as_ref());
        let last_modified = match replaced {
            // Renewed, it shows what it showed.
            Some(shown) if release.expires_at.is_some() && release.image == Some(shown.image) => shown.last_modified,
            _ => UnixMillis(release.at.0.max(earliest)),
        };
        let shows = image.map(|image| Shown {
            image: image.image,
            manifest: image.manifest,
            released_at: release.at,
            last_modified,
            expires_at: release.expires_at,
        });
        let environment = EnvironmentRecord {
            name: release.environment.clone(),
            number: release.number,
            last_modified,
            shows: shows.clone(),
            unknown: before.map(|before| before.unknown.clone()).unwrap_or_default(),
        };
        let event = PointerEvent::Pointer {
            project_id: project.project,
            environment: release.environment.clone(),
            number: release.number,
            shows,
        };
        let verb = match release.action {
            Action::Release if release.expires_at.is_some() => "preview",
            Action::Release => "release",
            Action::Rollback => "rollback",
            Action::Delete if replaced.is_some_and(Shown::is_preview) => "preview.delete",
            Action::Delete => "environment.delete",
        };
        let object = match &release.image {
            Some(image) => format!("{image} to {} of {}", release.environment, project.project),
            None => format!("{} of {}", release.environment, project.project),
        };
        let (audit_key, audit) = self.audit_in(caller, Some(project.project), verb, object, release.at);
        let log = LogRecord { environment: release.environment.clone(), number: release.number };
        commit
            .put(records::environments::key(project, &release.environment), encode(&environment))
            .put(records::releases::log_counter_key(project), encode(&LogCounter { last: last + 1 }))
            .put(records::releases::log_key(project, last + 1), encode(&log))
            .put(records::releases::key(project, &release.environment, release.number), encode(release))
            .put(audit_key, audit)
            .event(event_bytes(&event))
    }

    /// The image that a move is to show; nothing for a delete.
    async fn image_for(
        &self,
        project: ProjectRef,
        environment: &EnvironmentName,
        target: Target,
        shown: Option<ImageId>,
    ) -> Result<Option<ImageRecord>, ReleaseError> {
        let id = match target {
            Target::Nothing if shown.is_none() => return Err(ReleaseError::EnvironmentNotFound),
            Target::Nothing => return Ok(None),
            Target::Image(image) => image,
            Target::LatestCommit => {
                let latest = records::images::history(self.meta(), project, u64::MAX, 1).await?;
                latest.first().ok_or(ReleaseError::NothingCommitted)?.1
            }
            Target::OneBefore => {
                if shown.is_none() {
                    return Err(ReleaseError::EnvironmentNotFound);
                }
                let mut releases =
                    records::releases::of_environment(self.meta(), project, environment, u64::MAX, ROLLBACK_HORIZON)
                        .await?;
                releases.reverse();
                one_before(&releases).ok_or(ReleaseError::NothingToRollBackTo)?
            }
        };
        let image = records::images::get(self.meta(), project, id).await?.ok_or(ReleaseError::ImageNotFound)?.record;
        if image.collected_at.is_some() {
            return Err(ReleaseError::ImageCollected);
        }
        Ok(Some(image))
    }

    /// What a move to the image that is shown already answers: the release that made it so.
    async fn unchanged(
        &self,
        project: ProjectRef,
        environment: &EnvironmentName,
        number: u64,
        image: ImageId,
    ) -> Result<Moved, ReleaseError> {
        let release = records::releases::get(self.meta(), project, environment, number).await?;
        let mut record = release.ok_or(MetaError::Damaged { what: "release of an environment" })?.record;
        record.image = Some(image);
        record.previous = Some(image);
        Ok(Moved { record, changed: false })
    }
}

impl Move<'_> {
    /// The move that lets an environment of this kind show nothing.
    pub(super) fn away(kind: Kind) -> Self {
        Self { action: Action::Delete, kind, target: Target::Nothing, expected: None, message: None, once: None }
    }
}

/// The image before the one that is shown, where `releases` are an environment's in the order of numbers.
///
/// Releases push; a rollback goes back down to the image that it names. So a second rollback goes back further instead of
/// forward again.
fn one_before(releases: &[ReleaseRecord]) -> Option<ImageId> {
    let mut shown: Vec<ImageId> = Vec::new();
    for release in releases {
        match (release.action, release.image) {
            (Action::Delete, _) | (_, None) => {}
            (Action::Rollback, Some(image)) => match shown.iter().rposition(|earlier| *earlier == image) {
                Some(index) => shown.truncate(index + 1),
                None => shown.push(image),
            },
            (Action::Release, Some(image)) => {
                if shown.last() != Some(&image) {
                    shown.push(image);
                }
            }
        }
    }
    shown.len().checked_sub(2).map(|index| shown[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;

    #[test]
    fn environments_that_last_and_previews_are_not_taken_for_each_other() {
        let manifest = crate::hash::ManifestId::from_bytes([1; 32]);
        let shown = |expires_at| Shown {
            image: ImageId::from(&manifest),
            manifest,
            released_at: UnixMillis(1),
            last_modified: UnixMillis(1),
            expires_at,
        };
        let (lasting, preview) = (shown(None), shown(Some(UnixMillis(2))));
        let a_minute = Kind::Preview(Duration::from_secs(60));
        for (kind, current, want) in [
            (Kind::Lasting, None, "Ok"),
            (Kind::Lasting, Some(&lasting), "Ok"),
            (Kind::Lasting, Some(&preview), "NameIsPreview"),
            (a_minute, None, "Ok"),
            (a_minute, Some(&lasting), "NameIsEnvironment"),
            (a_minute, Some(&preview), "Ok"),
            (Kind::AnyPreview, None, "PreviewNotFound"),
            (Kind::AnyPreview, Some(&lasting), "PreviewNotFound"),
            (Kind::AnyPreview, Some(&preview), "Ok"),
            (Kind::Any, None, "Ok"),
            (Kind::Any, Some(&lasting), "Ok"),
            (Kind::Any, Some(&preview), "Ok"),
        ] {
            let got = format!("{:?}", kind.check(current));
            assert!(got.contains(want), "{kind:?} where the name stands for {current:?}: {got}");
        }
    }

    #[test]
    fn the_image_before() {
        use Action::{Delete, Release, Rollback};
        let image = |digit: u8| ImageId::from_bytes([digit; 16]);
        for (moves, want) in [
            (vec![], None),
            (vec![(Release, 1)], None),
            (vec![(Release, 1), (Release, 2)], Some(1)),
            (vec![(Release, 1), (Release, 2), (Release, 3), (Rollback, 2)], Some(1)),
            (vec![(Release, 1), (Release, 2), (Rollback, 1)], None),
            (vec![(Release, 1), (Release, 2), (Rollback, 1), (Release, 3)], Some(1)),
            (vec![(Release, 1), (Release, 2), (Release, 1)], Some(2)),
            (vec![(Release, 1), (Release, 2), (Delete, 0), (Release, 3)], Some(2)),
            (vec![(Release, 1), (Rollback, 9)], Some(1)),
        ] {
            let releases: Vec<_> = moves
                .iter()
                .map(|(action, digit)| ReleaseRecord {
                    number: 1,
                    environment: EnvironmentName::prod(),
                    action: *action,
                    image: (*action != Delete).then(|| image(*digit)),
                    previous: None,
                    at: UnixMillis(0),
                    user: UserId::from_bytes([0; 16]),
                    author: String::new(),
                    message: None,
                    expires_at: None,
                    unknown: Unknown::new(),
                })
                .collect();
            assert_eq!(one_before(&releases), want.map(image), "{moves:?}");
        }
    }
}
