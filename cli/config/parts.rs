//! From the keys to the configuration of each part, with the defaults, which are the parts' own.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use pinstone_api::DomainConfig;
use pinstone_api::config::{PublicUrl, Rates};
use pinstone_edge::{AccessLogConfig, AccessLogFormat, CacheConfig, Limits as EdgeLimits, Networks};
use pinstone_engine::accounts::Registration;
use pinstone_engine::blob::DiskCacheOptions;
use pinstone_engine::domains::proof::DomainRules;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::limits::Limits as EngineLimits;
use pinstone_engine::objects::S3Options;
use pinstone_engine::variants::VariantOptions;
use pinstone_engine::{StorageOptions, StoreUrl};
use tokio::runtime::Handle;

use super::reader::Reader;
use super::values::{
    access_log, address, batch_files, batch_size, count, count_or_off, count_or_zero, domain, domains_per_team,
    duration, duration_or_zero, fetches, fields, filter, host, ip_address, log_format, message_length, network,
    password_length, rate, size, size_or_off, size_or_zero, switch, upload_memory, variant_workers, workers,
};
use super::{ApiBounds, LogFormat, ServerConfig};

impl Reader<'_> {
    /// All of it. Where a key is wrong, its default stands in, so that the others are looked at too.
    pub(super) fn read(&mut self, loader: Handle, s3: S3Options) -> ServerConfig {
        let storage = self.storage(s3);
        let (limits, edge, cache) = (EngineLimits::default(), EdgeLimits::default(), CacheConfig::default());
        let variants = VariantOptions::default();
        let localhost = HostName::parse("localhost").expect("`localhost` is a host");
        let base_domain = self.one("base_domain", domain).unwrap_or(localhost);
        let public_url: Option<PublicUrl> = self.one("public_url", str::parse);
        let tls = self.tls(public_url.as_ref());
        let trusted_proxies: Networks = self.many("trusted_proxies", str::parse).into_iter().flatten().collect();
        let proxy_protocol = self.one("edge.proxy_protocol", switch).unwrap_or(false);
        if proxy_protocol && trusted_proxies.is_empty() {
            self.wrong("edge.proxy_protocol", "it needs `trusted_proxies`: nobody else may send such a header");
        }
        // Only defaults that do not depend on the configuration are taken from here.
        let api = pinstone_api::config::ApiConfig::new(
            PublicUrl::new(false, &base_domain, 80),
            Hosts::new(&base_domain, None),
            "",
        );
        let config = ServerConfig {
            data: self.one("data", |text| Ok::<_, String>(PathBuf::from(text))).unwrap_or("pinstone-data".into()),
            storage,
            listen: self.many("listen", address),
            control_hosts: self.many("control_hosts", host),
            public_url,
            log: self.one("log", filter).unwrap_or_else(|| "warn,pinstone=info".to_owned()),
            log_format: self.one("log_format", log_format).unwrap_or(LogFormat::Text),
            access_log: self.access_log(),
            metrics_listen: self.one("metrics_listen", address),
            limits: EngineLimits {
                files: self.one("limits.files", count_or_off).unwrap_or(limits.files),
                file_size: self.one("limits.file_size", size_or_off).unwrap_or(limits.file_size),
                publish_size: self.one("limits.publish_size", size_or_off).unwrap_or(limits.publish_size),
                team_projects: self.one("limits.team_projects", count_or_off).unwrap_or(limits.team_projects),
                team_bytes: self.one("limits.team_bytes", size_or_off).unwrap_or(limits.team_bytes),
                plan_size: self.one("limits.plan_size", size).unwrap_or(limits.plan_size),
                batch_blobs: self.one("limits.batch_files", batch_files).unwrap_or(limits.batch_blobs),
                batch_size: self.one("limits.batch_size", batch_size).unwrap_or(limits.batch_size),
                json_depth: self.one("limits.json_depth", count).unwrap_or(limits.json_depth),
                message_length: self.one("limits.message_length", message_length).unwrap_or(limits.message_length),
                archive_size: self.one("limits.archive_size", size).unwrap_or(limits.archive_size),
                archive_unpacked: self.one("limits.archive_unpacked", size).unwrap_or(limits.archive_unpacked),
                plan_lifetime: self.one("limits.plan_lifetime", duration).unwrap_or(limits.plan_lifetime),
                preview_lifetime: self.one("limits.preview_lifetime", duration).unwrap_or(limits.preview_lifetime),
                plan_cache: self.one("limits.plan_cache", size_or_zero).unwrap_or(limits.plan_cache),
            },
            api: ApiBounds {
                plan_memory: self.one("api.plan_memory", size).unwrap_or(api.plan_memory),
                json_size: self.one("api.json_size", size).unwrap_or(api.json_size),
                idle_timeout: self.one("api.idle_timeout", duration).unwrap_or(api.idle_timeout),
                json_timeout: self.one("api.json_timeout", duration).unwrap_or(api.json_timeout),
                archives: self.one("api.archives", count).unwrap_or(api.archives),
                archive_spool: self.one("api.archive_spool", size).unwrap_or(api.archive_spool),
                archive_timeout: self.one("api.archive_timeout", duration).unwrap_or(api.archive_timeout),
                rates: Rates {
                    calls_per_minute: self.one("api.calls_per_minute", rate).unwrap_or(api.rates.calls_per_minute),
                    uploads_per_minute: self
                        .one("api.uploads_per_minute", rate)
                        .unwrap_or(api.rates.uploads_per_minute),
                    uploads_at_once: self.one("api.uploads_at_once", rate).unwrap_or(api.rates.uploads_at_once),
                },
                registration: self.one("registration", str::parse::<Registration>),
                password_length: self
                    .one("accounts.password_length", password_length)
                    .unwrap_or(api.accounts.password_length),
                session_life: self.one("accounts.session_lifetime", duration).unwrap_or(api.accounts.session_life),
            },
            domains: self.domains(),
            variants: VariantOptions {
                workers: self.one("variants.workers", variant_workers).unwrap_or(variants.workers),
                largest: self.one("variants.largest", size).unwrap_or(variants.largest),
            },
            workers: self
                .one("edge.workers", workers)
                .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
            edge: EdgeLimits {
                connections: self.one("edge.connections", count).unwrap_or(edge.connections),
                connections_per_source: self
                    .one("edge.connections_per_source", count_or_zero)
                    .unwrap_or(edge.connections_per_source),
                head_bytes: self.one("edge.head_bytes", size).unwrap_or(edge.head_bytes),
                fields: self.one("edge.fields", fields).unwrap_or(edge.fields),
                target_bytes: self.one("edge.target_bytes", size).unwrap_or(edge.target_bytes),
                window_bytes: self.one("edge.window_bytes", size).unwrap_or(edge.window_bytes),
                window_memory: self.one("edge.window_memory", size).unwrap_or(edge.window_memory),
                head_timeout: self.one("edge.head_timeout", duration).unwrap_or(edge.head_timeout),
                write_timeout: self.one("edge.write_timeout", duration).unwrap_or(edge.write_timeout),
                idle_timeout: self.one("edge.idle_timeout", duration).unwrap_or(edge.idle_timeout),
                shutdown_grace: self.one("edge.shutdown_grace", duration_or_zero).unwrap_or(edge.shutdown_grace),
            },
            cache: CacheConfig {
                manifest_bytes: self.one("cache.manifest_bytes", size_or_zero).unwrap_or(cache.manifest_bytes),
                blob_bytes: self.one("cache.blob_bytes", size_or_zero).unwrap_or(cache.blob_bytes),
                small_blob: self.one("cache.small_blob", size_or_zero).unwrap_or(cache.small_blob),
                often_bytes: self.one("cache.often_bytes", size_or_zero).unwrap_or(cache.often_bytes),
                hot_bytes: self.one("cache.hot_bytes", size_or_zero).unwrap_or(cache.hot_bytes),
                open_files: self.one("cache.open_files", count).unwrap_or(cache.open_files),
                ..cache
            },
            sendfile: self.one("edge.sendfile", switch),
            debug_headers: self.one("edge.debug_headers", switch).unwrap_or(false),
            shutdown_delay: self.one("edge.shutdown_delay", duration_or_zero).unwrap_or(Duration::ZERO),
            trusted_proxies,
            proxy_protocol,
            tls,
            certificates: None,
            base_domain,
        };
        if let Err(error) = config.edge(loader).check() {
            let told: Vec<_> = error.mistakes.iter().map(|mistake| self.with_key(mistake)).collect();
            self.mistakes.extend(told);
        }
        config
    }

    /// Where requests are logged. The format alone opens no log.
    fn access_log(&mut self) -> Option<AccessLogConfig> {
        let format = self.one("access_log_format", str::parse::<AccessLogFormat>).unwrap_or_default();
        let target = self.one("access_log", access_log)?;
        Some(AccessLogConfig::new(target, format))
    }

    /// Where objects are kept, and what the usual variables say of an S3 store.
    fn storage(&mut self, s3: S3Options) -> StorageOptions {
        let defaults = StorageOptions::default();
        let url = self.one("blobs", str::parse::<StoreUrl>);
        if let Some(StoreUrl::S3 { bucket, .. }) = &url
            && let Err(error) = s3.check(bucket)
        {
            self.mistakes.extend(error.mistakes);
        }
        let cache = DiskCacheOptions {
            bytes: self.one("cache.disk_bytes", size_or_zero),
            fetches: self.one("cache.fetches", fetches).unwrap_or(defaults.cache.fetches),
        };
        let upload_memory = self.one("api.upload_memory", upload_memory).unwrap_or(defaults.upload_memory);
        StorageOptions { url, s3, cache, upload_memory }
    }

    /// How domains are proven. What this server listens on is not known yet.
    fn domains(&mut self) -> DomainConfig {
        let defaults = DomainConfig::default();
        let rules = DomainRules {
            recheck: self.one("domains.recheck", duration).unwrap_or(defaults.rules.recheck),
            grace: self.one("domains.grace", duration_or_zero).unwrap_or(defaults.rules.grace),
            hold_off: self.one("domains.hold_off", duration_or_zero).unwrap_or(defaults.rules.hold_off),
            per_team: self.one("domains.per_team", domains_per_team).unwrap_or(defaults.rules.per_team),
        };
        DomainConfig {
            rules,
            dns_servers: self.many("domains.dns_servers", address).unwrap_or_default(),
            file_port: self.one("domains.file_port", count).unwrap_or(defaults.file_port),
            special_networks: self.many("domains.special_networks", network).unwrap_or_default(),
            own_addresses: self.many("domains.own_addresses", ip_address).unwrap_or_default(),
            own_ports: defaults.own_ports,
        }
    }
}
