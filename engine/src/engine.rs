//! The engine's handle: the stores, the pointer table and the clock, opened together and closed together.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::account::{Origin, Principal, Scope};
use crate::accounts::{Passwords, Throttle};
use crate::blob::BlobStore;
use crate::blob::index::MemoryIndex;
use crate::clock::{Clock, UnixMillis};
use crate::data_folder::DataFolder;
#[cfg(feature = "rocksdb")]
use crate::data_folder::OpenError;
use crate::error::StoreError;
use crate::id::{PlanId, ProjectId, TeamId, TokenId, UserId};
use crate::limits::Limits;
use crate::meta::{Check, Commit, Key, MemoryMeta, MetaError, MetaStore, Outcome};
use crate::objects::StorageOptions;
#[cfg(feature = "rocksdb")]
use crate::objects::{self, Purpose};
use crate::plan::{ATTEMPTS, PlanBody};
use crate::pointers::{PointerEvent, PointerTable, ProjectRef};
use crate::projects::ToEmpty;
use crate::records::accounts::{OwnerRecord, TeamRecord, UserRecord};
use crate::records::audit::{AuditLog, AuditRecord};
use crate::records::domains::DomainRecord;
use crate::records::environments::EnvironmentRecord;
use crate::records::projects::ProjectRecord;
use crate::records::tokens::{TokenRecord, secret_digest};
use crate::records::variants::MadeRecord;
use crate::records::{self, Unknown, decode, encode};
use crate::resolve::Resolver;
use crate::tokens::uses::TokenUses;
use crate::variants::{Desk, MakerHandle, VariantCounters, VariantOptions};

/// Events read from the feed at a time.
const FEED_PAGE: usize = 1000;
/// How often answers that are too old to count are removed.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often it is written when tokens were last used.
const WRITE_USES_EVERY: Duration = Duration::from_secs(60);

/// How an embedded engine is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The data folder; made where it is not there.
    pub data: PathBuf,
    /// What publishers may send.
    pub limits: Limits,
    /// What tells the time.
    pub clock: Clock,
    /// Where objects are kept.
    pub storage: StorageOptions,
    /// How variants are made.
    pub variants: VariantOptions,
}

impl OpenOptions {
    /// The defaults, for the data folder `data`.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let (limits, storage, variants) = (Limits::default(), StorageOptions::default(), VariantOptions::default());
        Self { data: data.into(), limits, clock: Clock::system(), storage, variants }
    }
}

/// Whether the stores answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    /// The metadata store: it is read, and takes commits.
    pub metadata: bool,
    /// The metadata store is read.
    pub metadata_reads: bool,
    /// The object store.
    pub objects: bool,
    /// A local cache stands in front of the object store.
    pub objects_cached: bool,
}

/// Where the event feed is, and how far this process has followed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeedStatus {
    /// The position of the last event of the feed.
    pub position: u64,
    /// The position up to which every event is in the pointer table.
    pub applied: u64,
}

/// Stores, publishes and resolves sites. Cloning it is cheap; every clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    meta: Arc<dyn MetaStore>,
    blobs: BlobStore,
    pointers: Arc<PointerTable>,
    clock: Clock,
    limits: Limits,
    plan_bodies: Cache<PlanId, Arc<PlanBody>>,
    audit: AuditLog,
    owner: Principal,
    token_uses: TokenUses,
    passwords: Passwords,
    throttle: Throttle,
    /// Held while an account is deleted, so that nobody goes on with what somebody is at.
    deleting: tokio::sync::Mutex<()>,
    emptying: ToEmpty,
    /// Held while what a team uses is counted anew.
    counting: tokio::sync::Mutex<()>,
    /// Held while an image of a team is committed, by a part of the team's id: each changes the team's row.
    committing: Box<[tokio::sync::Mutex<()>]>,
    /// Held while events are applied, so that they are applied in order.
    applying: tokio::sync::Mutex<()>,
    follower: Mutex<Option<JoinHandle<()>>>,
    desk: Arc<Desk>,
    maker: Mutex<Option<MakerHandle>>,
    folder: Mutex<Option<DataFolder>>,
    /// Where archives wait to be read; the system's folder for temporary files where there is no data folder.
    spool: OnceLock<PathBuf>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("meta", &self.0.meta).field("blobs", &self.0.blobs).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the embedded engine in a data folder, which it makes and fills at the first start.
    ///
    /// # Errors
    ///
    /// Where the folder is in use, of a newer format, somebody else's or not writable, or its metadata is damaged, and
    /// where the store of its objects is not its own, or cannot be reached at the first start.
    #[cfg(feature = "rocksdb")]
    pub async fn open(options: OpenOptions) -> Result<Self, OpenError> {
        let clock = options.clock.clone();
        let opened = Box::pin(open_stores(&options.data, Purpose::Serve, clock, &options.storage)).await;
        let (mut folder, meta, blobs) = opened?;
        let token = folder.owner_token()?;
        let damaged = |source| OpenError::Meta { path: options.data.clone(), source };
        let engine = Self::assemble(meta, blobs, options.clock, options.limits, &token).await.map_err(damaged)?;
        folder.finish()?;
        if folder.was_interrupted() {
            folder = remove_leftovers(folder).await;
        }
        engine.0.spool.get_or_init(|| folder.spool());
        *engine.0.folder.lock() = Some(folder);
        engine.make_variants(options.variants).map_err(OpenError::io("start threads for", &options.data))?;
        Ok(engine)
    }

    /// An engine in memory, for tests and examples: gone with the process.
    pub async fn in_memory(clock: Clock) -> Self {
        Self::in_memory_with(clock, Limits::default()).await
    }

    /// An engine in memory with bounds of its own.
    pub async fn in_memory_with(clock: Clock, limits: Limits) -> Self {
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        Self::in_memory_over(meta, clock, limits).await
    }

    /// An engine in memory over a metadata store that the caller can look into.
    ///
    /// # Panics
    ///
    /// Where the store is damaged or was closed.
    pub async fn in_memory_over(meta: Arc<MemoryMeta>, clock: Clock, limits: Limits) -> Self {
        let objects = Arc::new(object_store::memory::InMemory::new());
        let blobs = BlobStore::new(objects, Arc::new(MemoryIndex::default()));
        Self::assemble(meta, blobs, clock, limits, "pin_in_memory").await.expect("stores in memory do not fail")
    }

    /// Puts an engine together from its stores. `owner_token` is the owner's from now on.
    ///
    /// # Errors
    ///
    /// Where the metadata store does not answer or a record in it is damaged.
    pub async fn assemble(
        meta: Arc<dyn MetaStore>,
        blobs: BlobStore,
        clock: Clock,
        limits: Limits,
        owner_token: &str,
    ) -> Result<Self, MetaError> {
        let owner = ensure_owner(&*meta, &clock, owner_token).await?;
        let audit = AuditLog::open(&*meta).await?;
        let pointers = Arc::new(PointerTable::default());
        let emptying = ToEmpty::default();
        load_pointers(&*meta, &pointers).await?.into_iter().for_each(|project| emptying.add(project));
        let weigh = |_: &PlanId, body: &Arc<PlanBody>| u32::try_from(body.weight()).unwrap_or(u32::MAX);
        let plan_bodies = Cache::builder()
            .weigher(weigh)
            .max_capacity(limits.plan_cache)
            .time_to_idle(Duration::from_secs(10 * 60))
            .build();
        let engine = Self(Arc::new(Inner {
            meta,
            blobs,
            pointers,
            clock,
            limits,
            plan_bodies,
            audit,
            owner,
            token_uses: TokenUses::default(),
            passwords: Passwords::default(),
            throttle: Throttle::default(),
            deleting: tokio::sync::Mutex::default(),
            emptying,
            counting: tokio::sync::Mutex::default(),
            committing: (0..256).map(|_| tokio::sync::Mutex::default()).collect(),
            applying: tokio::sync::Mutex::default(),
            follower: Mutex::default(),
            desk: Arc::default(),
            maker: Mutex::default(),
            folder: Mutex::default(),
            spool: OnceLock::new(),
        }));
        engine.go_on_deleting().await;
        engine.follow();
        Ok(engine)
    }

    /// What publishers may send.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What tells the time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The read path: what hosts show, manifests and blobs.
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        Resolver::new(
            Arc::clone(&self.0.pointers),
            self.0.blobs.clone(),
            Arc::clone(&self.0.meta),
            self.0.clock.clone(),
        )
    }

    /// The built-in owner, for callers in this process.
    #[must_use]
    pub fn owner_principal(&self) -> Principal {
        self.0.owner.clone()
    }

    /// Whether the stores answer.
    pub async fn health(&self) -> Health {
        let metadata_reads = records::accounts::owner(self.meta()).await.is_ok();
        let metadata = metadata_reads && self.meta().takes_commits();
        let objects = self.0.blobs.answers().await;
        Health { metadata, metadata_reads, objects, objects_cached: self.0.blobs.is_cached() }
    }

    /// Where the event feed is. It costs no read of the metadata store.
    #[must_use]
    pub fn feed(&self) -> FeedStatus {
        // The table first, so that it is never ahead of the feed.
        let applied = self.0.pointers.applied();
        FeedStatus { position: (*self.meta().wake().borrow()).max(applied), applied }
    }

    /// Makes variants in the background from now on, until the engine is closed. To be called once, within a runtime;
    /// [`Engine::open`] does it.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub fn make_variants(&self, options: VariantOptions) -> io::Result<()> {
        if options.workers == 0 {
            return Ok(());
        }
        let (meta, blobs, clock) = (Arc::clone(&self.0.meta), self.0.blobs.clone(), self.0.clock.clone());
        let maker = MakerHandle::start(meta, blobs, clock, Arc::clone(&self.0.desk), options)?;
        *self.0.maker.lock() = Some(maker);
        Ok(())
    }

    /// What was done to make variants.
    #[must_use]
    pub fn variant_counters(&self) -> Arc<VariantCounters> {
        Arc::clone(self.0.desk.counters())
    }

    /// A new file for something that has to be read more than once, such as an archive. It has no name, so it is gone with
    /// the last handle to it, however the process ends.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn spool_file(&self) -> io::Result<File> {
        match self.0.spool.get() {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        }
    }

    /// Stops making variants and following the feed, makes what was taken durable and gives the data folder back. Other clones can still
    /// read what is published.
    pub async fn close(&self) {
        let maker = self.0.maker.lock().take();
        if let Some(maker) = maker {
            maker.stop().await;
        }
        let follower = self.0.follower.lock().take();
        if let Some(follower) = follower {
            follower.abort();
            drop(follower.await);
        }
        self.try_to_write_token_uses().await;
        self.0.meta.close().await;
        let folder = self.0.folder.lock().take();
        if let Some(Err(error)) = folder.map(DataFolder::close) {
            tracing::warn!(%error, "the data folder was not closed; the next start looks for leftovers");
        }
    }

    pub(crate) fn meta(&self) -> &dyn MetaStore {
        &*self.0.meta
    }

    pub(crate) fn blobs(&self) -> &BlobStore {
        &self.0.blobs
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    pub(crate) fn plan_bodies(&self) -> &Cache<PlanId, Arc<PlanBody>> {
        &self.0.plan_bodies
    }

    pub(crate) fn token_uses(&self) -> &TokenUses {
        &self.0.token_uses
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    pub(crate) fn deleting(&self) -> &tokio::sync::Mutex<()> {
        &self.0.deleting
    }

    pub(crate) fn counting(&self) -> &tokio::sync::Mutex<()> {
        &self.0.counting
    }

    /// Waits for its turn to commit an image of `team`, so that those who want it do not all try at once.
    pub(crate) async fn turn_to_commit(&self, team: TeamId) -> tokio::sync::MutexGuard<'_, ()> {
        let [first, ..] = *team.as_bytes();
        self.0.committing[usize::from(first)].lock().await
    }

    /// The deleted projects whose rows are still there.
    pub(crate) fn emptying(&self) -> &ToEmpty {
        &self.0.emptying
    }

    /// The audit row of what `caller` is about to do.
    pub(crate) fn audit(&self, caller: &Principal, action: &str, object: String, at: UnixMillis) -> (Key, Bytes) {
        self.audit_in(caller, None, action, object, at)
    }

    /// The audit row of what `caller` is about to do in a project.
    pub(crate) fn audit_in(
        &self,
        caller: &Principal,
        project: Option<ProjectId>,
        action: &str,
        object: String,
        at: UnixMillis,
    ) -> (Key, Bytes) {
        let record = AuditRecord {
            user: Some(caller.user),
            actor: caller.name.clone(),
            credential: caller.token,
            project,
            ..AuditRecord::new(action, object, &caller.origin, at)
        };
        self.0.audit.row(caller.team, &record)
    }

    /// The audit row of something that nobody did who is known, for the log of `team`.
    pub(crate) fn audit_of_nobody(
        &self,
        team: TeamId,
        action: &str,
        object: String,
        origin: &Origin,
        at: UnixMillis,
    ) -> (Key, Bytes) {
        self.0.audit.row(team, &AuditRecord::new(action, object, origin, at))
    }

    /// Applies events until the pointer table holds all of them up to `position`.
    pub(crate) async fn catch_up(&self, position: u64) -> Result<(), StoreError> {
        while self.0.pointers.applied() < position {
            self.apply_events().await?;
        }
        Ok(())
    }

    /// Applies every event that is there, so that whoever was answered before sees it served.
    pub(crate) async fn catch_up_with_all(&self) -> Result<(), StoreError> {
        while self.apply_events().await? {}
        Ok(())
    }

    /// Applies one page of events; answers whether there was any.
    async fn apply_events(&self) -> Result<bool, MetaError> {
        let _in_order = self.0.applying.lock().await;
        let feed = self.0.meta.feed(self.0.pointers.applied(), FEED_PAGE).await?;
        if feed.too_old {
            // This process slept for longer than events are kept. What hosts show is read again, whole.
            load_pointers(&*self.0.meta, &self.0.pointers).await?;
            return Ok(true);
        }
        for (position, event) in &feed.events {
            match serde_json::from_slice(event) {
                Ok(event) => self.0.pointers.apply(event),
                // A later program may tell of things that this one does not know; they concern no pointer.
                Err(error) => tracing::warn!(%error, position, "an event of the feed is not understood"),
            }
            self.0.pointers.set_applied(*position);
        }
        Ok(!feed.events.is_empty())
    }

    /// Follows the feed in the background, so that this process also serves what others release.
    fn follow(&self) {
        let weak = Arc::downgrade(&self.0);
        let mut wake = self.0.meta.wake();
        let follower = tokio::spawn(async move {
            let mut forget_at = UnixMillis::default();
            let mut uses_at = None;
            loop {
                let Some(inner) = weak.upgrade() else { return };
                let engine = Self(inner);
                let mut more = match engine.apply_events().await {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::error!(%error, "the event feed cannot be read");
                        false
                    }
                };
                let now = engine.clock().now();
                if !more && *uses_at.get_or_insert(now.plus(WRITE_USES_EVERY)) <= now {
                    uses_at = None;
                    engine.try_to_write_token_uses().await;
                }
                if !more && engine.empty_some().await {
                    more = true;
                }
                if !more && forget_at <= now {
                    // The start has done it.
                    if forget_at > UnixMillis::default() {
                        engine.go_on_deleting().await;
                    }
                    forget_at = now.plus(FORGET_EVERY);
                    if let Err(error) = records::idempotency::forget(engine.meta(), now).await {
                        tracing::warn!(%error, "old answers could not be removed; an hour later is early enough");
                    }
                }
                drop(engine);
                // A hint may be lost, so the feed is looked at now and then in any case.
                if !more && let Ok(Err(_)) = tokio::time::timeout(Duration::from_secs(5), wake.changed()).await {
                    return;
                }
            }
        });
        *self.0.follower.lock() = Some(follower);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get_mut().take() {
            follower.abort();
        }
    }
}

/// The data folder, locked, and its stores.
#[cfg(feature = "rocksdb")]
pub(crate) async fn open_stores(
    path: &std::path::Path,
    purpose: Purpose,
    clock: Clock,
    storage: &StorageOptions,
) -> Result<(DataFolder, Arc<crate::meta::RocksStore>, BlobStore), OpenError> {
    let path = path.to_owned();
    let mut folder = off_thread(move || DataFolder::open(&path, purpose == Purpose::Serve)).await?;
    // `FORMAT` is written last, so a folder that has it had metadata: whoever made new ones would lose every site.
    if !folder.is_new() && !folder.meta().join("CURRENT").is_file() {
        let path = folder.path().to_owned();
        if !folder.was_interrupted() && folder.close().is_err() {
            tracing::warn!("the data folder was not closed; the next start looks for leftovers");
        }
        return Err(OpenError::MetaGone { path });
    }
    // First of all, so that nothing is opened beside the wrong objects.
    let objects = match objects::open(&mut folder, storage, purpose).await {
        Ok(objects) => objects,
        Err(error) => {
            // Nothing was begun, so there is nothing that the next start would have to look for.
            if !folder.was_interrupted() && folder.close().is_err() {
                tracing::warn!("the data folder was not closed; the next start looks for leftovers");
            }
            return Err(error);
        }
    };
    let meta = folder.meta();
    let store = off_thread(move || {
        crate::meta::RocksStore::open(&meta, clock).map_err(|source| OpenError::Meta { path: meta, source })
    });
    let store = Arc::new(store.await?);
    Ok((folder, store.clone(), objects.into_blobs(store)))
}

/// Runs what waits for a disk.
#[cfg(feature = "rocksdb")]
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Removes what an interrupted process left, before anything new is written that could be taken for it.
#[cfg(feature = "rocksdb")]
async fn remove_leftovers(folder: DataFolder) -> DataFolder {
    let removing = tokio::task::spawn_blocking(move || (folder.remove_leftovers(), folder)).await;
    let (removed, folder) = match removing {
        Ok(removed) => removed,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    match removed {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed temporary files of an interrupted process"),
        Err(error) => tracing::warn!(%error, "temporary files of an interrupted process could not be removed"),
    }
    folder
}

/// Makes the built-in owner at the first start, and makes `token` the owner's where it is not yet.
async fn ensure_owner(meta: &dyn MetaStore, clock: &Clock, token: &str) -> Result<Principal, MetaError> {
    let secret = secret_digest(token);
    for _ in 0..ATTEMPTS {
        let found = records::accounts::owner(meta).await?;
        if let Some(found) = &found
            && found.record.secret == secret
        {
            return owner_principal(meta, &found.record).await;
        }
        let now = clock.now();
        let (user, team) = match &found {
            Some(found) => (found.record.user, found.record.team),
            None => (UserId::random(), TeamId::random()),
        };
        let record = OwnerRecord {
            user,
            team,
            secret,
            unknown: found.as_ref().map(|found| found.record.unknown.clone()).unwrap_or_default(),
        };
        let token = TokenRecord {
            id: TokenId::random(),
            number: 0,
            user,
            team,
            name: "owner.token".to_owned(),
            user_name: "owner".to_owned(),
            scope: Scope::Admin,
            project: None,
            environment: None,
            session: false,
            created_at: now,
            expires_at: None,
            last_used_at: None,
            unknown: Unknown::new(),
        };
        let owner_key = records::accounts::owner_key();
        let check = found.as_ref().map_or(Check::Absent, |found| Check::Revision(found.revision));
        let mut commit = Commit::new()
            .check(owner_key.clone(), check)
            .put(owner_key, encode(&record))
            .put(records::tokens::key(&secret), encode(&token));
        match &found {
            // The token that was the owner's is nobody's from now on.
            Some(found) => commit = commit.delete(records::tokens::key(&found.record.secret)),
            None => {
                let unknown = Unknown::new;
                let owner = UserRecord {
                    id: user,
                    number: 1,
                    name: "owner".into(),
                    team,
                    created_at: now,
                    email: None,
                    password: None,
                    tokens: 0,
                    unknown: unknown(),
                };
                let home =
                    TeamRecord { id: team, number: 1, slug: "owner".into(), created_at: now, unknown: unknown() };
                commit = commit
                    .put(records::accounts::user_key(user), encode(&owner))
                    .put(records::accounts::team_key(team), encode(&home));
            }
        }
        if let Outcome::Done { .. } = meta.commit(commit).await? {
            return owner_principal(meta, &record).await;
        }
    }
    Err(MetaError::Damaged { what: "owner" })
}

async fn owner_principal(meta: &dyn MetaStore, owner: &OwnerRecord) -> Result<Principal, MetaError> {
    let user = records::accounts::user(meta, owner.user).await?.ok_or(MetaError::Damaged { what: "owner" })?;
    Ok(Principal::new(owner.user, owner.team, user.record.name))
}

/// Fills the pointer table from snapshots. The events since the oldest of them are applied again, after which it is as the
/// youngest one held. Answers which projects were deleted and not emptied yet.
async fn load_pointers(meta: &dyn MetaStore, pointers: &PointerTable) -> Result<Vec<ProjectRef>, MetaError> {
    let mut to_empty = Vec::new();
    let projects = meta.snapshot(records::projects::prefix()).await?;
    for (_, item) in &projects.items {
        let project: ProjectRecord = decode(item, "project")?.record;
        match (project.deleted_at, project.emptied_at) {
            (None, _) => pointers.apply(project.event()),
            (Some(_), None) => to_empty.push(project.reference()),
            (Some(_), Some(_)) => {}
        }
    }
    let environments = meta.snapshot(records::environments::prefix()).await?;
    for (key, item) in &environments.items {
        let environment: EnvironmentRecord = decode(item, "environment")?.record;
        let project = records::environments::project_of(key)?;
        pointers.apply(PointerEvent::Pointer {
            project_id: project.project,
            environment: environment.name,
            number: environment.number,
            shows: environment.shows,
        });
    }
    for (_, item) in &meta.snapshot(records::domains::prefix()).await?.items {
        let domain: DomainRecord = decode(item, "domain")?.record;
        // What shows nothing is passed over, unless it did when this was last read.
        if domain.shows.is_some() || pointers.domain(domain.domain.as_str()).is_some() {
            pointers.apply(domain.event());
        }
    }
    for (key, item) in &meta.snapshot(records::variants::made_prefix()).await?.items {
        let made: MadeRecord = decode(item, "variants")?.record;
        pointers.apply(PointerEvent::Variants { manifest: records::variants::manifest_in(key)?, list: made.list });
    }
    pointers.set_applied(projects.position);
    Ok(to_empty)
}
