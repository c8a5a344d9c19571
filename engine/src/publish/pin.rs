//! Pins: keeping an image although nothing shows it any more.

use super::ProjectSelector;
use crate::account::Principal;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::id::ImageId;
use crate::meta::{Check, Commit, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::pointers::ProjectRef;
use crate::records::images::ImageRecord;
use crate::records::pins::PinRecord;
use crate::records::{self, Stored, encode};

/// Why an image was not pinned or let go. Whichever it is, it is kept or not as before.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The project has no such image.
    #[error("the project has no such image")]
    ImageNotFound,
    /// The image is no longer kept.
    #[error("the image is no longer kept")]
    ImageCollected,
    /// The message is too long.
    #[error("a message has more than {limit} bytes")]
    MessageTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(PinError);

impl Engine {
    /// Keeps an image, whatever is released later. Pinning it again changes nothing, unless it says something new.
    ///
    /// # Errors
    ///
    /// Where the project or image is unknown, the image is not kept any more, or a store fails.
    pub async fn pin(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        image: ImageId,
        message: Option<&str>,
    ) -> Result<(), PinError> {
        let limit = self.limits().message_length;
        if message.is_some_and(|message| message.len() > limit) {
            return Err(PinError::MessageTooLong { limit });
        }
        let project = self.find_project(caller, project).await?.ok_or(PinError::ProjectNotFound)?;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let stored = self.image_to_pin(project, image).await?;
            if stored.record.collected_at.is_some() {
                return Err(PinError::ImageCollected);
            }
            let before = records::pins::get(self.meta(), project, image).await?;
            let is_said = |before: &Stored<PinRecord>| message.is_none() || before.record.message.as_deref() == message;
            if before.as_ref().is_some_and(is_said) {
                return Ok(());
            }
            let now = self.clock().now();
            let pin = PinRecord {
                image,
                at: now,
                user: caller.user,
                author: caller.name.clone(),
                message: message.map(str::to_owned),
                unknown: before.as_ref().map(|before| before.record.unknown.clone()).unwrap_or_default(),
            };
            let (audit_key, audit) =
                self.audit_in(caller, Some(project.project), "image.pin", object(project, image), now);
            let pin_key = records::pins::key(project, image);
            let commit = Commit::new()
                // Whoever stops keeping the image writes its row, and checks that there is no pin.
                .check(records::images::key(project, image), Check::Revision(stored.revision))
                .check(pin_key.clone(), before.map_or(Check::Absent, |before| Check::Revision(before.revision)))
                .put(pin_key, encode(&pin))
                .put(audit_key, audit);
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Lets an image go: from then on it is kept as any other. One that is not pinned stays as it is.
    ///
    /// # Errors
    ///
    /// Where the project or image is unknown, and where a store fails.
    pub async fn unpin(&self, caller: &Principal, project: &ProjectSelector, image: ImageId) -> Result<(), PinError> {
        let project = self.find_project(caller, project).await?.ok_or(PinError::ProjectNotFound)?;
        self.image_to_pin(project, image).await?;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Some(before) = records::pins::get(self.meta(), project, image).await? else { return Ok(()) };
            let now = self.clock().now();
            let (audit_key, audit) =
                self.audit_in(caller, Some(project.project), "image.unpin", object(project, image), now);
            let pin_key = records::pins::key(project, image);
            let commit = Commit::new()
                .check(pin_key.clone(), Check::Revision(before.revision))
                .delete(pin_key)
                .put(audit_key, audit);
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn image_to_pin(&self, project: ProjectRef, image: ImageId) -> Result<Stored<ImageRecord>, PinError> {
        records::images::get(self.meta(), project, image).await?.ok_or(PinError::ImageNotFound)
    }
}

/// What the audit log says was pinned or let go.
fn object(project: ProjectRef, image: ImageId) -> String {
    format!("{image} of {}", project.project)
}
