//! Previews: environments that end by themselves.
//!
//! A preview is moved as any environment is, by the same checked commit with the same numbers, rows and event; only that
//! what it shows has an end. Nothing happens at that end: whoever serves compares it with the clock at each request. For
//! [`PREVIEW_GRACE`](crate::pointers::PREVIEW_GRACE) longer the preview keeps its name and its image, so that renewing it
//! brings back what it was.

use std::time::Duration;

use super::ProjectSelector;
use super::release::{Kind, Move, ReleaseError, Target};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::ImageId;
use crate::meta::MetaError;
use crate::name::{EnvironmentName, ProjectName};
use crate::plan::ATTEMPTS;
use crate::pointers::ProjectRef;
use crate::queries::LookupError;
use crate::records;
use crate::records::idempotency::{IdempotencyKey, Once};
use crate::records::releases::Action;

/// The shortest time that a preview can be asked to last.
pub const SHORTEST_PREVIEW: Duration = Duration::from_secs(1);
/// How long a preview lasts where nobody says it, as long as that is not longer than
/// [`Limits::preview_lifetime`](crate::Limits::preview_lifetime).
pub const DEFAULT_PREVIEW: Duration = Duration::from_secs(24 * 60 * 60);

/// An image that is to be looked at for a while.
#[derive(Clone, Debug)]
pub struct PreviewRequest {
    /// The project.
    pub project: ProjectSelector,
    /// The image.
    pub image: ImageId,
    /// The preview's name; without it, one that nobody has. One that is there already is moved and renewed.
    pub slug: Option<EnvironmentName>,
    /// How long it lasts; [`DEFAULT_PREVIEW`] where this is missing.
    pub lifetime: Option<Duration>,
    /// Why.
    pub message: Option<String>,
}

/// A preview as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Previewed {
    /// The project.
    pub project: ProjectName,
    /// The preview's name.
    pub slug: EnvironmentName,
    /// What it shows.
    pub image: ImageId,
    /// The number of its last release.
    pub number: u64,
    /// When that was made.
    pub released_at: UnixMillis,
    /// When it is or was over.
    pub expires_at: UnixMillis,
    /// Whether it is over.
    pub is_expired: bool,
}

impl Engine {
    /// Makes a preview show an image, from now until its end; it comes into being where it is not there.
    ///
    /// # Errors
    ///
    /// Where the project or image is unknown, the time is out of bounds, the name is that of an environment that lasts,
    /// or a store fails.
    pub async fn preview(
        &self,
        caller: &Principal,
        request: PreviewRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Previewed, ReleaseError> {
        let limit = self.limits().message_length;
        if request.message.as_ref().is_some_and(|message| message.len() > limit) {
            return Err(ReleaseError::MessageTooLong { limit });
        }
        let longest = self.limits().preview_lifetime;
        let lifetime = request.lifetime.unwrap_or_else(|| DEFAULT_PREVIEW.min(longest));
        if !(SHORTEST_PREVIEW..=longest).contains(&lifetime) {
            return Err(ReleaseError::Lifetime { shortest: SHORTEST_PREVIEW, longest });
        }
        if request.slug.as_ref().is_some_and(EnvironmentName::always_lasts) {
            return Err(ReleaseError::NameIsEnvironment);
        }
        let project = self.find_project(caller, &request.project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        let asked =
            (project.project, &request.slug, request.image, request.lifetime.map(|l| l.as_millis()), &request.message);
        let movement = Move {
            action: Action::Release,
            kind: Kind::Preview(lifetime),
            target: Target::Image(request.image),
            expected: None,
            message: request.message.as_deref(),
            once: key.map(|key| Once::new(caller.team, caller.user, key, "preview", &asked)),
        };
        let slug = match &request.slug {
            Some(slug) => slug.clone(),
            // It would be another environment than the token's, whatever its name.
            None if caller.access.environment.is_some() => return Err(ReleaseError::OutOfScope),
            None => self.free_name(project).await?,
        };
        // A request that was done before answers with the name that it got then.
        let moved = self.move_pointer(caller, project, &slug, movement).await?.record;
        let name = records::projects::get(self.meta(), project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        let damaged = MetaError::Damaged { what: "release of a preview" };
        let (Some(image), Some(expires_at)) = (moved.image, moved.expires_at) else { return Err(damaged.into()) };
        Ok(Previewed {
            project: name.record.name,
            slug: moved.environment,
            image,
            number: moved.number,
            released_at: moved.at,
            expires_at,
            // As it was made: a request that comes again is answered alike, also when the preview is over.
            is_expired: false,
        })
    }

    /// Ends a preview for good, or forgets one that is over: its host shows nothing from then on.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::PreviewNotFound`] where the project has no preview of this name, and where a store fails.
    pub async fn delete_preview(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        slug: &EnvironmentName,
    ) -> Result<(), ReleaseError> {
        let project = self.find_project(caller, project).await?.ok_or(ReleaseError::ProjectNotFound)?;
        self.move_pointer(caller, project, slug, Move::away(Kind::AnyPreview)).await.map(drop)
    }

    /// The previews of a project, by name; those that are over are among them for as long as they are kept.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn previews(&self, caller: &Principal, project: &ProjectSelector) -> Result<Vec<Previewed>, LookupError> {
        let (project, name) = self.project_to_read(caller, project).await?;
        let now = self.clock().now();
        let shown = records::environments::kept(self.meta(), project, now).await?;
        let previews = shown.into_iter().filter_map(|environment| {
            let shows = environment.shows?;
            Some(Previewed {
                project: name.clone(),
                slug: environment.name,
                image: shows.image,
                number: environment.number,
                released_at: shows.released_at,
                expires_at: shows.expires_at?,
                is_expired: shows.is_expired(now),
            })
        });
        Ok(previews.collect())
    }

    /// A name that no environment of the project has or had.
    async fn free_name(&self, project: ProjectRef) -> Result<EnvironmentName, ReleaseError> {
        for _ in 0..ATTEMPTS {
            let name = EnvironmentName::random();
            if records::environments::get(self.meta(), project, &name).await?.is_none() {
                return Ok(name);
            }
        }
        Err(StoreError::Contended.into())
    }
}
