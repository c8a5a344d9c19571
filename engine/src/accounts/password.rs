//! Passwords: Argon2id, off the async threads, and only so many at once, because each takes 19 MiB for a while.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::AccountError;
use crate::hex;
use crate::id::random_bytes;
use crate::meta::MetaError;
use crate::records::accounts::PasswordRecord;

/// The longest password, in bytes.
pub const LONGEST_PASSWORD: usize = 1024;

const ALGORITHM: &str = "argon2id";
/// What OWASP's password storage cheat sheet asks of Argon2id at least: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
/// The most memory and passes that a record is believed.
const MOST_MEMORY_KIB: u32 = 256 << 10;
const MOST_PASSES: u32 = 16;
/// Computed at a time, at most, however many processors there are.
const MOST_AT_ONCE: usize = 4;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Computes what is kept of passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    computed: AtomicU64,
}

impl Default for Passwords {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { turns: Arc::new(Semaphore::new(processors.min(MOST_AT_ONCE))), computed: AtomicU64::new(0) }
    }
}

impl Passwords {
    /// How many were computed.
    pub(crate) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// What is to be kept of a new password.
    pub(crate) async fn keep(&self, password: &str) -> Result<PasswordRecord, AccountError> {
        let salt = random_bytes::<16>();
        let hash = self.compute(password, salt, MEMORY_KIB, PASSES).await?;
        Ok(PasswordRecord {
            algorithm: ALGORITHM.to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt: hex::encode(&salt),
            hash: hex::encode(&hash),
        })
    }

    /// Whether `password` is the one that `kept` is of. Where there is none it takes as long, and is not.
    pub(crate) async fn is(&self, password: &str, kept: Option<&PasswordRecord>) -> Result<bool, AccountError> {
        let Some(kept) = kept else {
            self.compute(password, [0; 16], MEMORY_KIB, PASSES).await?;
            return Ok(false);
        };
        let known = kept.algorithm == ALGORITHM
            && (1..=MOST_MEMORY_KIB).contains(&kept.memory_kib)
            && (1..=MOST_PASSES).contains(&kept.passes);
        let (Some(salt), Some(want), true) = (hex::decode(&kept.salt), hex::decode::<32>(&kept.hash), known) else {
            return Err(MetaError::Damaged { what: "password" }.into());
        };
        let hash = self.compute(password, salt, kept.memory_kib, kept.passes).await?;
        Ok(hash.ct_eq(&want).into())
    }

    async fn compute(
        &self,
        password: &str,
        salt: [u8; 16],
        memory_kib: u32,
        passes: u32,
    ) -> Result<[u8; 32], AccountError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| AccountError::Busy)?.expect("the semaphore is never closed");
        self.computed.fetch_add(1, Ordering::Relaxed);
        let password = password.to_owned();
        let computing = tokio::task::spawn_blocking(move || {
            // It goes along: a client that leaves does not stop the thread, so the memory is still held.
            let _turn = turn;
            let mut hash = [0; 32];
            let params = Params::new(memory_kib, passes, 1, Some(hash.len()))?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password.as_bytes(), &salt, &mut hash)?;
            Ok::<_, argon2::Error>(hash)
        });
        match computing.await {
            Ok(Ok(hash)) => Ok(hash),
            Ok(Err(_)) => Err(MetaError::Damaged { what: "password" }.into()),
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending.
                Err(_) => Err(MetaError::Closed.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other_is() {
        let passwords = Passwords::default();
        let kept = passwords.keep("correct horse").await.unwrap();
        let again = passwords.keep("correct horse").await.unwrap();
        assert_ne!(kept.hash, again.hash, "each has a salt of its own");
        for (password, of, want) in [
            ("correct horse", Some(&kept), true),
            ("correct horse", Some(&again), true),
            ("correct horse ", Some(&kept), false),
            ("", Some(&kept), false),
            ("correct horse", None, false),
        ] {
            let before = passwords.computed();
            assert_eq!(passwords.is(password, of).await.unwrap(), want, "{password:?}");
            assert_eq!(passwords.computed(), before + 1, "an unknown user costs as much as a known one");
        }
    }

    #[tokio::test]
    async fn a_damaged_record_is_an_error_and_costs_no_memory() {
        let passwords = Passwords::default();
        let kept = passwords.keep("correct horse").await.unwrap();
        let damages: [fn(&mut PasswordRecord); 6] = [
            |kept| kept.algorithm = "md5".to_owned(),
            |kept| kept.memory_kib = u32::MAX,
            |kept| kept.memory_kib = 0,
            |kept| kept.passes = 0,
            |kept| kept.salt = "00".to_owned(),
            |kept| kept.hash.clear(),
        ];
        for (index, damage) in damages.iter().enumerate() {
            let mut damaged = kept.clone();
            damage(&mut damaged);
            assert!(passwords.is("correct horse", Some(&damaged)).await.is_err(), "damage {index}");
        }
        assert_eq!(passwords.computed(), 1);
    }

    #[test]
    fn the_hash_is_argon2id_as_others_compute_it() {
        // By the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32`.
        let params = Params::new(65536, 2, 1, Some(32)).unwrap();
        let mut hash = [0; 32];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(b"password", b"somesalt", &mut hash).unwrap();
        let want = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(hex::encode(&hash), want);
    }
}
