//! Publishing a folder without a server: what an image holds, and what a second publish of it has to send.
//!
//! `cargo run --example publish_directory [FOLDER]`; without a folder, `examples/site`.

use std::error::Error;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::Engine;
use pinstone_engine::clock::Clock;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::ImageId;
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::CommitRequest;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = std::env::args_os().nth(1).map_or_else(|| "examples/site".into(), PathBuf::from);
    let engine = Engine::in_memory(Clock::system()).await;

    let (image, sent) = publish(&engine, &folder).await?;
    println!("{image}: {sent} files sent");
    let (same, sent) = publish(&engine, &folder).await?;
    println!("{same}: {sent} files sent the second time\n");

    let (owner, project) = (engine.owner_principal(), "folder".parse()?);
    let mut after = None;
    loop {
        let (files, next) = engine.image_files(&owner, &project, image, after.as_deref(), 1000).await?;
        for file in files {
            println!("{:>9}  {:<32} {}", file.size, file.content_type, file.path);
        }
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    engine.close().await;
    Ok(())
}

/// Publishes a folder as the project `folder`; answers its image, and how many files had to be sent.
async fn publish(engine: &Engine, folder: &Path) -> Result<(ImageId, usize), Failure> {
    let owner = engine.owner_principal();
    let mut paths = Vec::new();
    find_files(folder, "", &mut paths)?;
    let mut files = Vec::new();
    for path in paths {
        let bytes = std::fs::read(folder.join(path.as_str()))?;
        files.push(PlannedFile {
            path,
            blob: BlobHash::of(&bytes),
            size: Some(bytes.len() as u64),
            content_type: None,
        });
    }
    let new = NewPlan { project: "folder".parse()?, files, git: None, message: None, settings: Settings::default() };
    let plan = engine.plan(&owner, new, None).await?;
    for missing in &plan.missing {
        let bytes = Bytes::from(std::fs::read(folder.join(missing.path.as_str()))?);
        let (length, body) = (bytes.len() as u64, stream::iter([Ok::<_, Failure>(bytes)]));
        // The bytes are hashed while they arrive; a file that changed meanwhile is refused here.
        engine.upload(&owner, plan.id, missing.hash, Some(length), body).await?;
    }
    let commit = CommitRequest { plan: plan.id, message: None, strict: false };
    Ok((engine.commit(&owner, commit, None).await?.image, plan.missing.len()))
}

/// Finds the files of a folder. `pinstone deploy` also knows links, ignore files and dot names.
fn find_files(root: &Path, within: &str, found: &mut Vec<SitePath>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(root.join(within))? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        let path = format!("{within}{name}");
        if entry.file_type()?.is_dir() {
            find_files(root, &format!("{path}/"), found)?;
        } else {
            found.push(SitePath::new(path)?);
        }
    }
    Ok(())
}
