//! Removing what belonged to projects that were deleted: their rows, a few at a time, by the task that follows the feed.
//!
//! Nothing leads to these rows any more, so nobody waits for it. A process that dies in between goes on at its next
//! start: the project's own row says whether it is done, and stays. Blobs and manifests are the collector's.

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::StoreError;
use crate::meta::{Check, Commit, Key, MetaError, Order, Outcome, after_prefix};
use crate::pointers::ProjectRef;
use crate::records::plans::PlanRecord;
use crate::records::{self, Stored, Table, decode, encode};

/// Rows removed in one commit.
const AT_ONCE: usize = 100;
/// Plans of a team that are looked at in one step.
const PLANS_AT_ONCE: usize = 1000;

/// The tables whose keys begin with team and project.
const TABLES: [Table; 8] = [
    Table::Environment,
    Table::Release,
    Table::ReleaseLog,
    Table::Image,
    Table::Commit,
    Table::History,
    Table::Pin,
    Table::ProjectUsage,
];

/// The projects that are to be emptied.
#[derive(Debug, Default)]
pub(crate) struct ToEmpty(Mutex<Vec<Emptying>>);

/// A project that is being emptied.
#[derive(Debug)]
struct Emptying {
    project: ProjectRef,
    /// How many of [`TABLES`] have nothing of it any more.
    tables: usize,
    /// Up to where the plans of its team were looked at.
    plans_after: Option<Key>,
}

impl ToEmpty {
    pub(crate) fn add(&self, project: ProjectRef) {
        self.0.lock().push(Emptying { project, tables: 0, plans_after: None });
    }
}

impl Engine {
    /// Removes some of what belonged to a deleted project; answers whether there may be more to remove.
    pub(crate) async fn empty_some(&self) -> bool {
        let Some(mut emptying) = self.emptying().0.lock().pop() else { return false };
        match self.empty_step(&mut emptying).await {
            Ok(true) => return true,
            Ok(false) => self.emptying().0.lock().push(emptying),
            Err(error) => {
                tracing::warn!(%error, "a deleted project could not be emptied; it is tried again after a while");
                self.emptying().0.lock().push(emptying);
                return false;
            }
        }
        true
    }

    /// Answers whether nothing is left.
    async fn empty_step(&self, emptying: &mut Emptying) -> Result<bool, StoreError> {
        if let Some(table) = TABLES.get(emptying.tables) {
            let from = records::projects::of(*table, emptying.project).finish();
            let rows = self.meta().scan(from.clone(), after_prefix(&from), AT_ONCE, Order::Ascending).await?;
            emptying.tables += usize::from(rows.len() < AT_ONCE);
            if !rows.is_empty() {
                let commit = rows.into_iter().fold(Commit::new(), |commit, (key, _)| commit.delete(key));
                self.meta().commit(commit).await?;
            }
            return Ok(false);
        }
        if self.forget_plans(emptying).await? {
            return Ok(false);
        }
        let Some(Stored { mut record, revision }) = records::projects::row(self.meta(), emptying.project).await? else {
            return Ok(true);
        };
        record.emptied_at = Some(self.clock().now());
        let key = records::projects::key(emptying.project);
        let commit = Commit::new().check(key.clone(), Check::Revision(revision)).put(key, encode(&record));
        Ok(matches!(self.meta().commit(commit).await?, Outcome::Done { .. }))
    }

    /// Removes the project's plans among the next ones of its team; answers whether there are more to look at.
    async fn forget_plans(&self, emptying: &mut Emptying) -> Result<bool, MetaError> {
        let all = records::plans::prefix_of(emptying.project.team);
        let from = emptying.plans_after.as_ref().map_or_else(|| all.clone(), |after| [after, &[0][..]].concat().into());
        let rows = self.meta().scan(from, after_prefix(&all), PLANS_AT_ONCE, Order::Ascending).await?;
        let mut commit = Commit::new();
        for (key, item) in &rows {
            emptying.plans_after = Some(key.clone());
            let plan: PlanRecord = decode(item, "plan")?.record;
            if plan.project != emptying.project.project {
                continue;
            }
            self.forget_plan_body(plan.id).await;
            commit = commit.delete(key.clone());
            if commit.deletes.len() == AT_ONCE {
                self.meta().commit(commit).await?;
                return Ok(true);
            }
        }
        if !commit.deletes.is_empty() {
            self.meta().commit(commit).await?;
        }
        Ok(rows.len() == PLANS_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::blob::BlobStore;
    use crate::blob::index::MemoryIndex;
    use crate::clock::Clock;
    use crate::hash::BlobHash;
    use crate::limits::Limits;
    use crate::manifest::Settings;
    use crate::meta::{MemoryMeta, MetaStore};
    use crate::path::SitePath;
    use crate::plan::{NewPlan, PlannedFile};
    use crate::publish::{CommitRequest, PreviewRequest, ReleaseRequest};

    async fn start(meta: &Arc<MemoryMeta>, blobs: &BlobStore) -> Engine {
        let meta: Arc<dyn MetaStore> = Arc::clone(meta) as _;
        Engine::assemble(meta, blobs.clone(), Clock::system(), Limits::default(), "pin_owner").await.unwrap()
    }

    /// Publishes a site with an environment, a preview, a pin and an open plan.
    async fn publish(engine: &Engine, project: &str) {
        let caller = engine.owner_principal();
        let mut ids = Vec::new();
        for text in ["one", "two"] {
            let (path, blob) = (SitePath::new("index.html").unwrap(), BlobHash::of(text.as_bytes()));
            let file = PlannedFile { path, blob, size: None, content_type: None };
            let new = NewPlan {
                project: project.parse().unwrap(),
                files: vec![file],
                git: None,
                message: None,
                settings: Settings::default(),
            };
            let plan = engine.plan(&caller, new, None).await.unwrap().id;
            let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(text.as_bytes()))]);
            engine.upload(&caller, plan, blob, None, body).await.unwrap();
            ids.push(plan);
        }
        let commit = CommitRequest { plan: ids[0], message: None, strict: false };
        let image = engine.commit(&caller, commit, None).await.unwrap().image;
        let release = ReleaseRequest {
            project: project.parse().unwrap(),
            environment: crate::name::EnvironmentName::prod(),
            image: Some(image),
            expected: None,
            message: None,
        };
        engine.release(&caller, release, None).await.unwrap();
        let preview =
            PreviewRequest { project: project.parse().unwrap(), image, slug: None, lifetime: None, message: None };
        engine.preview(&caller, preview, None).await.unwrap();
        engine.pin(&caller, &project.parse().unwrap(), image, None).await.unwrap();
    }

    /// How many rows each of the tables has, and plans.
    async fn rows(meta: &MemoryMeta) -> usize {
        let mut count = meta.snapshot(records::plans::prefix()).await.unwrap().items.len();
        for table in TABLES {
            count += meta.snapshot(records::KeyWriter::new(table).finish()).await.unwrap().items.len();
        }
        count
    }

    #[tokio::test]
    async fn what_belonged_to_a_deleted_project_goes_and_nothing_else_also_after_a_restart() {
        let meta = Arc::new(MemoryMeta::default());
        let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
        let engine = start(&meta, &blobs).await;
        publish(&engine, "stays").await;
        let stays = rows(&meta).await;
        publish(&engine, "goes").await;
        let caller = engine.owner_principal();
        let project = records::projects::find_by_name(&*meta, &"goes".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(rows(&meta).await, 2 * stays);
        engine.delete_project(&caller, &"goes".parse().unwrap()).await.unwrap();
        // Before much of it was done, if any.
        drop(engine);
        let engine = start(&meta, &blobs).await;
        for _ in 0..200 {
            let row = records::projects::row(&*meta, project).await.unwrap().unwrap();
            if row.record.emptied_at.is_some() {
                assert_eq!(rows(&meta).await, stays);
                assert_eq!(engine.resolver().pointers().len(), 1);
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the project was not emptied");
    }
}
