//! A store that did not answer at the start: nothing in it is touched before it has shown its id.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::belonging::{Marker, StoreId};

/// The store, and the id that it has to show.
pub(super) struct Unproven {
    store: Arc<dyn ObjectStore>,
    id: StoreId,
    url: String,
    proven: Arc<OnceLock<()>>,
}

impl Unproven {
    pub(super) fn new(store: Arc<dyn ObjectStore>, id: StoreId, url: String) -> Self {
        Self { store, id, url, proven: Arc::default() }
    }

    /// Waits until it is known to be the right store, or fails as the store does. Everybody asks for himself: who waited
    /// for others to ask a store that is down would then have to ask it all the same.
    async fn prove(&self) -> object_store::Result<()> {
        if self.proven.get().is_some() {
            return Ok(());
        }
        match Marker::read(&*self.store).await? {
            Marker::Store(id) if id == self.id => {
                if self.proven.set(()).is_ok() {
                    tracing::info!(store = %self.url, "the store answers");
                }
                Ok(())
            }
            _ => {
                tracing::error!(store = %self.url, "this is not the store of this data folder; nothing is read from it");
                Err(object_store::Error::Generic { store: "objects", source: Box::new(NotOurs) })
            }
        }
    }

    fn clone_shared(&self) -> Self {
        Self { store: Arc::clone(&self.store), id: self.id, url: self.url.clone(), proven: Arc::clone(&self.proven) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is not the store of this data folder")]
struct NotOurs;

impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unproven({})", self.url)
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl ObjectStore for Unproven {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.prove().await?;
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.prove().await?;
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.prove().await?;
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &ObjectPath,
        ranges: &[std::ops::Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.prove().await?;
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        let this = self.clone_shared();
        let deleting = async move {
            this.prove().await?;
            Ok::<_, object_store::Error>(this.store.delete_stream(locations))
        };
        stream::once(deleting).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (this, prefix) = (self.clone_shared(), prefix.cloned());
        let listing = async move {
            this.prove().await?;
            Ok::<_, object_store::Error>(this.store.list(prefix.as_ref()))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.prove().await?;
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> object_store::Result<()> {
        self.prove().await?;
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use futures_util::future::join_all;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    use tokio::time::Instant;

    const ONE: StoreId = StoreId([1; 16]);
    const TWO: StoreId = StoreId([2; 16]);

    #[tokio::test]
    async fn an_unproven_store_is_not_touched_before_it_shows_its_id() {
        let inner = Arc::new(InMemory::new());
        let store = Unproven::new(inner.clone(), ONE, "memory".to_owned());
        let object = ObjectPath::from("blobs/x");
        let is_refused = async |store: &Unproven| {
            let put = store.put(&object, PutPayload::from("x")).await.is_err();
            let listed: Result<Vec<_>, _> = store.list(None).try_collect().await;
            put && listed.is_err() && store.get(&object).await.is_err() && store.delete(&object).await.is_err()
        };
        assert!(is_refused(&store).await, "a store without a marker");
        Marker::write(&*inner, TWO).await.unwrap();
        assert!(is_refused(&store).await, "another store");
        assert!(inner.get(&object).await.is_err(), "nothing was written");
        Marker::write(&*inner, ONE).await.unwrap();
        store.put(&object, PutPayload::from("x")).await.unwrap();
        assert_eq!(store.get(&object).await.unwrap().bytes().await.unwrap(), "x");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_others_who_ask_a_store_that_is_down() {
        let slow = ThrottleConfig { wait_get_per_call: Duration::from_secs(10), ..ThrottleConfig::default() };
        let store = Unproven::new(Arc::new(ThrottledStore::new(InMemory::new(), slow)), ONE, "memory".to_owned());
        let (object, began) = (ObjectPath::from("blobs/x"), Instant::now());
        let asked = join_all((0..20).map(|_| store.get(&object))).await;
        assert!(asked.iter().all(Result::is_err));
        assert!(began.elapsed() < Duration::from_secs(20), "{:?} for all of them", began.elapsed());
    }
}
