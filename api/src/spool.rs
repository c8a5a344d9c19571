//! Archives that are received: each in a file without a name, all of them within bounds of number and bytes.
//!
//! What an archive says of its size is set aside before its first byte is asked for; what it did not say is set aside as
//! it arrives. Where there is no room a client is told to come back, and nothing waits half received for another.

use std::fs::File;
use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt;
use pinstone_engine::Engine;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::{arriving, blocking, broken};
use crate::config::ApiConfig;
use crate::error::{ApiError, ErrorCode, archive_too_large, io_error};

/// The unit in which room for archives is handed out, in bytes.
const UNIT: u64 = 1 << 20;

/// Room for archives.
#[derive(Debug)]
pub(crate) struct Spools {
    slots: Arc<Semaphore>,
    units: Arc<Semaphore>,
    most_units: u32,
}

/// Room for one archive; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _slot: OwnedSemaphorePermit,
    units: OwnedSemaphorePermit,
}

/// An archive that has arrived.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The file, at its start.
    pub(crate) file: File,
    /// What it takes up, until it is dropped.
    pub(crate) room: Room,
}

impl Spools {
    /// Room for as many and as large archives as `config` says, and for one of `largest` bytes in any case.
    pub(crate) fn new(config: &ApiConfig, largest: u64) -> Self {
        let most_units = units(config.archive_spool.max(largest));
        let slots = usize::try_from(config.archives).unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            units: Arc::new(Semaphore::new(most_units as usize)),
            most_units,
        }
    }

    /// Waits for room for an archive that `announced` so many bytes; one that did not gets its room as it arrives.
    pub(crate) async fn room(&self, announced: Option<u64>, config: &ApiConfig) -> Result<Room, ApiError> {
        let wanted = units(announced.unwrap_or(1)).min(self.most_units);
        let room = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
            let units = Arc::clone(&self.units).acquire_many_owned(wanted).await;
            Room { _slot: slot, units: units.expect("the semaphore is never closed") }
        };
        timeout(config.idle_timeout, room).await.map_err(|_| busy())
    }

    /// Takes a body of at most `limit` bytes in.
    pub(crate) async fn receive(
        &self,
        engine: &Engine,
        config: &ApiConfig,
        mut room: Room,
        body: Body,
        limit: u64,
    ) -> Result<Spooled, ApiError> {
        let end = Instant::now() + config.archive_timeout;
        let engine = engine.clone();
        let file = blocking(move || engine.spool_file()).await?.map_err(|error| io_error(&error))?;
        let mut file = tokio::fs::File::from_std(file);
        let mut frames = arriving(body, config.idle_timeout);
        let mut received = 0_u64;
        loop {
            let frame = match timeout_at(end, frames.next()).await {
                Err(_) => return Err(ErrorCode::RequestTimeout.into()),
                Ok(None) => break,
                Ok(Some(Err(cause))) => return Err(broken(&cause).into()),
                Ok(Some(Ok(frame))) => frame,
            };
            received += frame.len() as u64;
            if received > limit {
                return Err(archive_too_large(limit));
            }
            self.grow(&mut room, received)?;
            file.write_all(&frame).await.map_err(|error| io_error(&error))?;
        }
        // Writes are done in the background; the last one's failure is told here.
        file.flush().await.map_err(|error| io_error(&error))?;
        file.rewind().await.map_err(|error| io_error(&error))?;
        Ok(Spooled { file: file.into_std().await, room })
    }

    /// Sets aside what `received` bytes need beyond what `room` has.
    fn grow(&self, room: &mut Room, received: u64) -> Result<(), ApiError> {
        let had = u32::try_from(room.units.num_permits()).unwrap_or(u32::MAX);
        let more = units(received).min(self.most_units).saturating_sub(had);
        if more > 0 {
            // Who has some and waits for more could wait for others who do the same.
            room.units.merge(Arc::clone(&self.units).try_acquire_many_owned(more).map_err(|_| busy())?);
        }
        Ok(())
    }
}

fn busy() -> ApiError {
    ApiError::new(ErrorCode::Busy, "the server receives as many archives as it has room for")
}

fn units(bytes: u64) -> u32 {
    // A million units are a TiB.
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, 1 << 20)
}
