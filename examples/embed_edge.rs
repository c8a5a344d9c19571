//! An edge inside another program: a site of two files, published in memory and served on a free port.
//!
//! `cargo run --example embed_edge`

use std::error::Error;
use std::num::NonZeroUsize;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pinstone_edge::{Edge, EdgeConfig, Listeners};
use pinstone_engine::Engine;
use pinstone_engine::clock::Clock;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let engine = Engine::in_memory(Clock::system()).await;
    publish(&engine, &[("index.html", "<h1>Hello</h1>\n"), ("hello.css", "h1 { color: teal }\n")]).await?;

    // What is loaded from a store is loaded on this runtime; the edge's own threads never wait for one.
    let hosts = Hosts::new(&HostName::parse("localhost")?, None);
    let mut config = EdgeConfig::new(hosts, Handle::current());
    config.workers = NonZeroUsize::MIN;
    let listeners = Listeners::bind(&["127.0.0.1:0".parse()?], config.workers)?;
    let address = *listeners.addresses().first().ok_or("nothing is listened on")?;
    let shutdown = CancellationToken::new();
    // Without a control plane: requests for `localhost` itself are answered with 404.
    let edge = Edge::new(config, engine.resolver(), None)?;
    let serving = tokio::spawn(edge.serve(listeners, shutdown.clone()));

    println!("`hello.localhost` at {address} answers:\n");
    println!("{}", fetch(&format!("http://{address}/"), "hello.localhost").await?);

    shutdown.cancel();
    serving.await??;
    engine.close().await;
    Ok(())
}

/// Publishes `files` as the project `hello`, and releases them to `prod`.
async fn publish(engine: &Engine, files: &[(&str, &'static str)]) -> Result<(), Failure> {
    let owner = engine.owner_principal();
    let planned = |(path, text): &(&str, &str)| {
        Ok(PlannedFile {
            path: SitePath::new(*path)?,
            blob: BlobHash::of(text.as_bytes()),
            size: Some(text.len() as u64),
            content_type: None,
        })
    };
    let plan = NewPlan {
        project: "hello".parse()?,
        files: files.iter().map(planned).collect::<Result<_, Failure>>()?,
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(&owner, plan, None).await?;
    for (_, text) in files {
        let body = stream::iter([Ok::<_, Failure>(Bytes::from_static(text.as_bytes()))]);
        engine.upload(&owner, plan.id, BlobHash::of(text.as_bytes()), Some(text.len() as u64), body).await?;
    }
    let commit = CommitRequest { plan: plan.id, message: None, strict: false };
    let image = engine.commit(&owner, commit, None).await?.image;
    let release = ReleaseRequest {
        project: "hello".parse()?,
        environment: "prod".parse()?,
        image: Some(image),
        expected: None,
        message: None,
    };
    engine.release(&owner, release, None).await?;
    Ok(())
}

/// Asks the edge as a browser would, and returns the status, the fields and the body.
async fn fetch(url: &str, host: &str) -> Result<String, Failure> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = http::Request::get(url).header(http::header::HOST, host).body(Empty::new())?;
    let answer = client.request(request).await?;
    let mut text = format!("{}\n", answer.status());
    for (name, value) in answer.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str()?));
    }
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(format!("{text}\n{}", String::from_utf8_lossy(&body)))
}
