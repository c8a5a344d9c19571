//! Every key: what it is called in the file and as a flag, and what `--help` says of it. What its value may be is said in
//! `values`, and what becomes of it in `parts`.

use super::layers::{Given, Layer};

/// Declares every key once: how it is spelled in the file, its flag, and what stands for its value.
macro_rules! keys {
    ($($(#[$doc:meta])* $field:ident: $key:literal, $flag:literal, $value:literal $(, $list:ident)?;)*) => {
        /// The configuration's keys, as flags.
        #[derive(Clone, Debug, Default, clap::Args)]
        #[command(next_help_heading = "Configuration (flag, variable `PINSTONE_…`, or key in the file)")]
        pub(crate) struct Flags {
            $($(#[$doc])*
            #[arg(long = $flag, value_name = $value, hide_short_help = $key.contains('.') $(, num_args = $list())?)]
            pub(super) $field: Vec<String>,)*
        }

        impl Flags {
            /// What the flags say, as the first layer.
            pub(super) fn into_layer(self) -> Layer {
                let mut layer = Layer::new();
                $(if !self.$field.is_empty() {
                    layer.insert($key, Given { values: self.$field, origin: concat!("`--", $flag, "`").to_owned() });
                })*
                layer
            }
        }

        /// Every key, as the file spells it.
        pub(super) const KEYS: &[&str] = &[$($key),*];
    };
}

fn list() -> std::ops::RangeFrom<usize> {
    1..
}

keys! {
    /// The data folder [default: ./pinstone-data]
    data: "data", "data", "DIR";
    /// Where to listen; port 0 takes any free port [default: 127.0.0.1:8080 [::1]:8080]
    listen: "listen", "listen", "ADDR", list;
    /// Where files are kept: `s3://bucket/prefix`, or a folder's path [default: as remembered, or DATA/objects]
    blobs: "blobs", "blobs", "URL";
    /// The domain that sites are under [default: localhost]
    base_domain: "base_domain", "base-domain", "NAME";
    /// Where this server is reached [default: http://<base domain>:<port>]
    public_url: "public_url", "public-url", "URL";
    /// The hosts of the API [default: the base domain, api. and console. under it, and IP addresses]
    control_hosts: "control_hosts", "control-hosts", "NAME", list;
    /// Who may register: `open`, `invite` or `closed` [default: open where the base domain is localhost, else closed]
    registration: "registration", "registration", "WHO";
    /// How the log looks: `text` or `json` [default: text]
    log_format: "log_format", "log-format", "FORMAT";
    /// What is logged, such as `info` or `warn,pinstone_api=debug` [default: warn,pinstone=info]
    log: "log", "log", "FILTER";
    /// Where requests are logged: a file, or `-` for standard output [default: nowhere]
    access_log: "access_log", "access-log", "FILE";
    /// How the access log looks: `json` or `combined` [default: json]
    access_log_format: "access_log_format", "access-log-format", "FORMAT";
    /// Where `/metrics`, `/healthz` and `/readyz` are answered [default: nowhere]
    metrics_listen: "metrics_listen", "metrics-listen", "ADDR";
    /// Proxies that may say for whom they ask, by Forwarded, X-Forwarded-For and -Proto [default: none]
    trusted_proxies: "trusted_proxies", "trusted-proxy", "CIDR", list;
    /// Where to listen for TLS [default: nowhere]
    tls_listen: "tls.listen", "tls-listen", "ADDR", list;
    /// A certificate and its chain, as PEM; also for who names no host, or an unknown one
    tls_cert: "tls.cert", "tls-cert", "FILE";
    /// The certificate's private key, as PEM
    tls_key: "tls.key", "tls-key", "FILE";
    /// A folder of certificates: NAME.crt or NAME.pem and NAME.key, or NAME/fullchain.pem and NAME/privkey.pem
    tls_dir: "tls.dir", "tls-dir", "DIR";
    /// Send visitors without TLS to HTTPS, and refuse API calls without it: `true` or `false` [default: false]
    tls_redirect: "tls.redirect", "tls-redirect", "BOOL";
    /// How long browsers that came over TLS are to use nothing else; `0` takes it back [default: not said]
    tls_hsts: "tls.hsts", "tls-hsts", "DURATION";
    /// Files of one plan; `0` is without a limit [default: 200000]
    limits_files: "limits.files", "limits-files", "COUNT";
    /// Size of one file; `0` is without a limit [default: 100MiB]
    limits_file_size: "limits.file_size", "limits-file-size", "SIZE";
    /// Size of all files of one publish; `0` is without a limit [default: 0]
    limits_publish_size: "limits.publish_size", "limits-publish-size", "SIZE";
    /// Projects of one team; `0` is without a limit [default: 0]
    limits_team_projects: "limits.team_projects", "limits-team-projects", "COUNT";
    /// Size of all images of one team, shared files counted once; `0` is without a limit [default: 0]
    limits_team_bytes: "limits.team_bytes", "limits-team-bytes", "SIZE";
    /// Size of one plan's JSON [default: 64MiB]
    limits_plan_size: "limits.plan_size", "limits-plan-size", "SIZE";
    /// Files of one batch [default: 10000]
    limits_batch_files: "limits.batch_files", "limits-batch-files", "COUNT";
    /// Size of the files of one batch [default: 32MiB]
    limits_batch_size: "limits.batch_size", "limits-batch-size", "SIZE";
    /// How deep JSON may nest [default: 16]
    limits_json_depth: "limits.json_depth", "limits-json-depth", "COUNT";
    /// Length of a message [default: 4KiB]
    limits_message_length: "limits.message_length", "limits-message-length", "SIZE";
    /// Size of an archive as it is sent [default: 1GiB]
    limits_archive_size: "limits.archive_size", "limits-archive-size", "SIZE";
    /// Size of all that an archive unpacks to [default: 4GiB]
    limits_archive_unpacked: "limits.archive_unpacked", "limits-archive-unpacked", "SIZE";
    /// How long a plan stays open [default: 24h]
    limits_plan_lifetime: "limits.plan_lifetime", "limits-plan-lifetime", "DURATION";
    /// How long a preview may last [default: 30d]
    limits_preview_lifetime: "limits.preview_lifetime", "limits-preview-lifetime", "DURATION";
    /// Open plans kept in memory [default: 128MiB]
    limits_plan_cache: "limits.plan_cache", "limits-plan-cache", "SIZE";
    /// Memory for plans that are being read [default: 128MiB]
    api_plan_memory: "api.plan_memory", "api-plan-memory", "SIZE";
    /// JSON bodies of other calls [default: 64KiB]
    api_json_size: "api.json_size", "api-json-size", "SIZE";
    /// How long a body may pause [default: 60s]
    api_idle_timeout: "api.idle_timeout", "api-idle-timeout", "DURATION";
    /// How long a JSON body may take [default: 10m]
    api_json_timeout: "api.json_timeout", "api-json-timeout", "DURATION";
    /// Archives that are received or read at once [default: 4]
    api_archives: "api.archives", "api-archives", "COUNT";
    /// Disk for archives that are received or read [default: 4GiB]
    api_archive_spool: "api.archive_spool", "api-archive-spool", "SIZE";
    /// How long an archive may take to arrive [default: 1h]
    api_archive_timeout: "api.archive_timeout", "api-archive-timeout", "DURATION";
    /// Calls a minute of one token, uploads apart; `0` is without a limit [default: 100]
    api_calls_per_minute: "api.calls_per_minute", "api-calls-per-minute", "COUNT";
    /// Uploads a minute of one token; more wait, and `0` is without a limit [default: 6000]
    api_uploads_per_minute: "api.uploads_per_minute", "api-uploads-per-minute", "COUNT";
    /// Uploads of one plan at a time; more wait, and `0` is without a limit [default: 10]
    api_uploads_at_once: "api.uploads_at_once", "api-uploads-at-once", "COUNT";
    /// The shortest password, in bytes [default: 8]
    accounts_password_length: "accounts.password_length", "accounts-password-length", "COUNT";
    /// How long somebody who signed in stays so [default: 30d]
    accounts_session_lifetime: "accounts.session_lifetime", "accounts-session-lifetime", "DURATION";
    /// DNS servers that are asked about custom domains, each with its port [default: those of the system]
    domains_dns_servers: "domains.dns_servers", "domains-dns-servers", "ADDR", list;
    /// How often custom domains are proven again [default: 24h]
    domains_recheck: "domains.recheck", "domains-recheck", "DURATION";
    /// How long a custom domain is served that cannot be proven any more [default: 7d]
    domains_grace: "domains.grace", "domains-grace", "DURATION";
    /// How long nobody else gets a custom domain that was removed [default: 3d]
    domains_hold_off: "domains.hold_off", "domains-hold-off", "DURATION";
    /// Custom domains of one team [default: 100]
    domains_per_team: "domains.per_team", "domains-per-team", "COUNT";
    /// Addresses that this server is reached by, beside its own and those of its base domain [default: none]
    domains_own_addresses: "domains.own_addresses", "domains-own-addresses", "IP", list;
    /// Networks that are not public, and may be asked for a domain's file [default: none]
    domains_special_networks: "domains.special_networks", "domains-special-networks", "CIDR", list;
    /// The port that a domain's file is fetched from [default: 80]
    domains_file_port: "domains.file_port", "domains-file-port", "PORT";
    /// Memory for large uploads that are passed on to an S3 store [default: 256MiB]
    api_upload_memory: "api.upload_memory", "api-upload-memory", "SIZE";
    /// Threads that compress files in the background; 0 compresses none [default: 1]
    variants_workers: "variants.workers", "variants-workers", "COUNT";
    /// The largest file that is compressed [default: 32MiB]
    variants_largest: "variants.largest", "variants-largest", "SIZE";
    /// Threads that serve [default: one a core]
    edge_workers: "edge.workers", "edge-workers", "COUNT";
    /// Connections open at once [default: 10000]
    edge_connections: "edge.connections", "edge-connections", "COUNT";
    /// Connections open at once from an IPv4 address or an IPv6 /64; `0` for any number [default: 256]
    edge_connections_per_source: "edge.connections_per_source", "edge-connections-per-source", "COUNT";
    /// Whether connections of trusted proxies begin with a PROXY header, version 2: `true` or `false` [default: false]
    edge_proxy_protocol: "edge.proxy_protocol", "edge-proxy-protocol", "BOOL";
    /// Size of a request's head [default: 32KiB]
    edge_head_bytes: "edge.head_bytes", "edge-head-bytes", "SIZE";
    /// Fields of a request's head [default: 100]
    edge_fields: "edge.fields", "edge-fields", "COUNT";
    /// Length of a request's target [default: 8KiB]
    edge_target_bytes: "edge.target_bytes", "edge-target-bytes", "SIZE";
    /// How much of a large file an answer holds in memory [default: 64KiB]
    edge_window_bytes: "edge.window_bytes", "edge-window-bytes", "SIZE";
    /// How much of large files all answers hold in memory [default: 256MiB]
    edge_window_memory: "edge.window_memory", "edge-window-memory", "SIZE";
    /// Whether large files are sent from the page cache as they lie (sendfile), without TLS: `true` or `false` [default: true,
    /// but not with BBR for TCP's congestion control]
    edge_sendfile: "edge.sendfile", "edge-sendfile", "BOOL";
    /// How long a request's head may take [default: 10s]
    edge_head_timeout: "edge.head_timeout", "edge-head-timeout", "DURATION";
    /// How long a client may take no byte of an answer [default: 30s]
    edge_write_timeout: "edge.write_timeout", "edge-write-timeout", "DURATION";
    /// How long a connection may be idle [default: 75s]
    edge_idle_timeout: "edge.idle_timeout", "edge-idle-timeout", "DURATION";
    /// How long answers may take once the server is told to end [default: 10s]
    edge_shutdown_grace: "edge.shutdown_grace", "edge-shutdown-grace", "DURATION";
    /// How long new connections are taken once the server is told to end, while `/readyz` says no [default: 0s]
    edge_shutdown_delay: "edge.shutdown_delay", "edge-shutdown-delay", "DURATION";
    /// Whether `Pinstone-Debug: 1` asks how an answer came about: `true` or `false` [default: false]
    edge_debug_headers: "edge.debug_headers", "edge-debug-headers", "BOOL";
    /// Memory for manifests [default: 256MiB]
    cache_manifest_bytes: "cache.manifest_bytes", "cache-manifest-bytes", "SIZE";
    /// Memory for small files [default: 256MiB]
    cache_blob_bytes: "cache.blob_bytes", "cache-blob-bytes", "SIZE";
    /// The largest file that is kept in memory [default: 512KiB]
    cache_small_blob: "cache.small_blob", "cache-small-blob", "SIZE";
    /// Memory for larger files that are asked for often over TLS or HTTP/2, each at most an eighth of it [default: 128MiB]
    cache_often_bytes: "cache.often_bytes", "cache-often-bytes", "SIZE";
    /// Memory for the heads of common answers, and for the small files that go with them [default: 256MiB]
    cache_hot_bytes: "cache.hot_bytes", "cache-hot-bytes", "SIZE";
    /// Files kept open, and as many more of those that are in memory [default: 1024]
    cache_open_files: "cache.open_files", "cache-open-files", "COUNT";
    /// Disk for what an S3 store has sent [default: 10GiB, or half of what is free]
    cache_disk_bytes: "cache.disk_bytes", "cache-disk-bytes", "SIZE";
    /// Files fetched from an S3 store at once; each takes 1 MiB of memory [default: 64]
    cache_fetches: "cache.fetches", "cache-fetches", "COUNT";
}
