//! Stores in which the n-th operation goes wrong: it fails before it was done, or after, or the process dies there.
//!
//! The wrappers count every operation of an object store, a metadata store and a blob index, whatever asks for it: an
//! upload in parts is as many operations as it has steps. After a death nothing happens any more: every operation waits
//! for ever, as those of a process that is gone.

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, UploadPart,
};
use parking_lot::Mutex;
use pinstone_engine::blob::{BlobIndex, BlobRecord, IndexError, IndexWrite, Made, MadeOf, Owner, VariantKey};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::TeamId;
use pinstone_engine::meta::{Commit, Feed, Item, Key, MetaError, MetaStore, Order, Outcome, Snapshot};
use tokio::sync::{Notify, watch};

/// What happens at the operation that goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum How {
    /// It is not done, for lack of room.
    FailBefore,
    /// It is done, and its answer is lost.
    FailAfter,
    /// It is not done, and nothing is after it.
    DieBefore,
    /// It is done, and nothing is after it.
    DieAfter,
}

impl How {
    pub(crate) const ALL: [Self; 4] = [Self::FailBefore, Self::FailAfter, Self::DieBefore, Self::DieAfter];

    pub(crate) fn is_death(self) -> bool {
        matches!(self, Self::DieBefore | Self::DieAfter)
    }
}

/// Which operations are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counted {
    /// Those that change something.
    Writes,
    /// Those that do not.
    Reads,
}

/// An operation that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) counted: Counted,
    /// Which one of them, from 0.
    pub(crate) at: usize,
    pub(crate) how: How,
}

/// Counts the operations of all stores that share it.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    state: Mutex<State>,
    is_dead: AtomicBool,
    died: Notify,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    seen: usize,
    /// The name of the operation that went wrong.
    struck: Option<String>,
}

impl Switch {
    /// Lets one operation go wrong, counted from now on.
    pub(crate) fn arm(&self, fault: Fault) {
        *self.state.lock() = State { fault: Some(fault), ..State::default() };
    }

    /// Lets all go well from now on; answers what went wrong.
    pub(crate) fn disarm(&self) -> Option<String> {
        std::mem::take(&mut *self.state.lock()).struck
    }

    /// Waits for the death.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    fn is_struck(&self, counted: Counted, name: impl FnOnce() -> String) -> Option<How> {
        let mut state = self.state.lock();
        let fault = state.fault.filter(|fault| fault.counted == counted)?;
        state.seen += 1;
        if state.seen != fault.at + 1 {
            return None;
        }
        state.struck = Some(name());
        Some(fault.how)
    }

    async fn die<T>(&self) -> T {
        self.is_dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        pending().await
    }

    async fn around<T, E: Injected>(
        &self,
        counted: Counted,
        name: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.is_dead.load(Ordering::SeqCst) {
            return pending().await;
        }
        match self.is_struck(counted, name) {
            None => work.await,
            Some(How::FailBefore) => Err(E::injected(io::Error::from(io::ErrorKind::StorageFull))),
            Some(How::FailAfter) => {
                drop(work.await);
                Err(E::injected(io::Error::other("the answer was lost")))
            }
            Some(How::DieBefore) => self.die().await,
            Some(How::DieAfter) => {
                drop(work.await);
                self.die().await
            }
        }
    }
}

/// The errors of stores, made of what goes wrong.
trait Injected {
    fn injected(error: io::Error) -> Self;
}

impl Injected for object_store::Error {
    fn injected(error: io::Error) -> Self {
        Self::Generic { store: "faulty", source: Box::new(error) }
    }
}

impl Injected for MetaError {
    fn injected(error: io::Error) -> Self {
        Self::Engine(Arc::new(error))
    }
}

impl Injected for IndexError {
    fn injected(error: io::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

/// A store in which operations go wrong as the switch says.
#[derive(Debug)]
pub(crate) struct Faulty<S: ?Sized> {
    pub(crate) inner: Arc<S>,
    pub(crate) switch: Arc<Switch>,
}

impl fmt::Display for Faulty<dyn ObjectStore> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty<dyn ObjectStore> {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.switch.around(Counted::Writes, || format!("put {at}"), self.inner.put_opts(at, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(at, opts);
        let inner = self.switch.around(Counted::Writes, || format!("begin {at}"), begun).await?;
        Ok(Box::new(FaultyUpload { inner, switch: Arc::clone(&self.switch), at: at.clone(), is_over: false }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.switch.around(Counted::Reads, || format!("get {at}"), self.inner.get_opts(at, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let (inner, switch) = (Arc::clone(&self.inner), Arc::clone(&self.switch));
        let deleted = move |location: object_store::Result<Path>| {
            let (inner, switch) = (Arc::clone(&inner), Arc::clone(&switch));
            async move {
                let at = location?;
                switch.around(Counted::Writes, || format!("delete {at}"), inner.delete(&at)).await?;
                Ok(at)
            }
        };
        locations.then(deleted).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let name = || "list".to_owned();
        self.switch.around(Counted::Reads, name, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.switch.around(Counted::Writes, || format!("copy to {to}"), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        let work = self.inner.rename_opts(from, to, options);
        self.switch.around(Counted::Writes, || format!("rename to {to}"), work).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    switch: Arc<Switch>,
    at: Path,
    /// Whether its end failed. A local store has nothing to give up then, and says so.
    is_over: bool,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (work, switch, at) = (self.inner.put_part(data), Arc::clone(&self.switch), self.at.clone());
        Box::pin(async move { switch.around(Counted::Writes, || format!("part of {at}"), work).await })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let name = || format!("complete {}", self.at);
        let completed = self.switch.around(Counted::Writes, name, self.inner.complete()).await;
        self.is_over = completed.is_err();
        completed
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        if self.is_over {
            return Err(object_store::Error::injected(io::Error::other("the upload is over")));
        }
        let name = || format!("abort {}", self.at);
        self.switch.around(Counted::Writes, name, self.inner.abort()).await
    }
}

#[async_trait]
impl MetaStore for Faulty<dyn MetaStore> {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, MetaError> {
        self.switch.around(Counted::Reads, || "meta get".to_owned(), self.inner.get(keys)).await
    }

    async fn scan(&self, from: Key, to: Key, limit: usize, order: Order) -> Result<Vec<(Key, Item)>, MetaError> {
        let work = self.inner.scan(from, to, limit, order);
        self.switch.around(Counted::Reads, || "meta scan".to_owned(), work).await
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, MetaError> {
        let tag = commit.puts.first().map_or(0, |(key, _)| key[0]);
        self.switch.around(Counted::Writes, || format!("commit of {tag:02x}"), self.inner.commit(commit)).await
    }

    async fn feed(&self, after: u64, limit: usize) -> Result<Feed, MetaError> {
        self.switch.around(Counted::Reads, || "meta feed".to_owned(), self.inner.feed(after, limit)).await
    }

    async fn snapshot(&self, prefix: Key) -> Result<Snapshot, MetaError> {
        self.switch.around(Counted::Reads, || "meta snapshot".to_owned(), self.inner.snapshot(prefix)).await
    }

    fn wake(&self) -> watch::Receiver<u64> {
        self.inner.wake()
    }

    fn takes_commits(&self) -> bool {
        self.inner.takes_commits()
    }

    /// The test closes what is below, if it is to be closed.
    async fn close(&self) {}
}

#[async_trait]
impl BlobIndex for Faulty<dyn BlobIndex> {
    async fn get(&self, hashes: &[BlobHash]) -> Result<Vec<Option<BlobRecord>>, IndexError> {
        self.switch.around(Counted::Reads, || "index get".to_owned(), self.inner.get(hashes)).await
    }

    async fn owned(&self, team: TeamId, hashes: &[BlobHash]) -> Result<Vec<bool>, IndexError> {
        self.switch.around(Counted::Reads, || "index owned".to_owned(), self.inner.owned(team, hashes)).await
    }

    async fn counted(&self, owner: Owner, hashes: &[BlobHash]) -> Result<Vec<Option<u32>>, IndexError> {
        self.switch.around(Counted::Reads, || "index counted".to_owned(), self.inner.counted(owner, hashes)).await
    }

    async fn write(&self, writes: Vec<IndexWrite>) -> Result<(), IndexError> {
        let name = format!("index write of {}", writes.len());
        self.switch.around(Counted::Writes, || name, self.inner.write(writes)).await
    }

    async fn scan(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<(BlobHash, BlobRecord)>, IndexError> {
        self.switch.around(Counted::Reads, || "index scan".to_owned(), self.inner.scan(after, limit)).await
    }

    async fn hashes(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<BlobHash>, IndexError> {
        self.switch.around(Counted::Reads, || "index hashes".to_owned(), self.inner.hashes(after, limit)).await
    }

    async fn made(&self, identities: &[BlobHash]) -> Result<Vec<MadeOf>, IndexError> {
        self.switch.around(Counted::Reads, || "index made".to_owned(), self.inner.made(identities)).await
    }

    async fn scan_made(
        &self,
        after: Option<VariantKey>,
        limit: usize,
    ) -> Result<Vec<(VariantKey, Option<Made>)>, IndexError> {
        let work = self.inner.scan_made(after, limit);
        self.switch.around(Counted::Reads, || "index scan of what was made".to_owned(), work).await
    }
}
