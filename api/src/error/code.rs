//! The codes of failed calls: each listed once, with all that belongs to it.
//!
//! Codes are never renamed, because clients match on them. No text repeats anything of a request.

use http::StatusCode;

macro_rules! codes {
    ($($name:ident $text:literal $status:ident, $message:literal, $hint:literal;)*) => {
        /// Why a call failed, as clients see it.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", $text, "`: ", $message, ".")]
                $name,
            )*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as answers have it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The status that goes with it.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            pub(super) fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $message,)*
                }
            }

            /// What to do next.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self {
                    $(Self::$name => $hint,)*
                }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json" BAD_REQUEST,
        "the body is not JSON in UTF-8",
        "send one JSON object and nothing after it";
    JsonTooDeep "json_too_deep" BAD_REQUEST,
        "the JSON is nested too deeply",
        "no call needs more than a few levels";
    InvalidRequest "invalid_request" BAD_REQUEST,
        "the JSON does not have the shape that this call takes",
        "compare the fields and their types with the API's description";
    InvalidQuery "invalid_query" BAD_REQUEST,
        "the query cannot be read",
        "give each key once; `limit` and `page` are whole numbers from 1, `strip` is one from 0, `strict` is `true` or `false`";
    InvalidCursor "invalid_cursor" BAD_REQUEST,
        "the cursor is none that this list gave",
        "start without a cursor, and pass on `next_cursor` as it is";
    InvalidPath "invalid_path" BAD_REQUEST,
        "a path cannot be that of a file in a site",
        "paths are relative, decoded, at most 1,024 bytes, without empty, `.` or `..` segments, control \
         characters or backslashes";
    DuplicatePath "duplicate_path" BAD_REQUEST,
        "a path occurs twice",
        "name each file once; a leading `/` makes no difference";
    InvalidHash "invalid_hash" BAD_REQUEST,
        "a hash is not 64 hex digits",
        "a file is named by the BLAKE3 of its bytes, as 64 hex digits";
    InvalidProject "invalid_project" BAD_REQUEST,
        "the project cannot be called that",
        "a project's name is 3 to 40 lower-case letters, digits and single hyphens between them, such as `my-site`";
    ProjectRequired "project_required" BAD_REQUEST,
        "the project is missing",
        "say which one with `project` or `project_id`";
    InvalidEnvironment "invalid_environment" BAD_REQUEST,
        "the environment cannot be called that",
        "an environment's name is 1 to 21 lower-case letters, digits and single hyphens between them, such \
         as `prod`, `beta` or `pr-7`";
    EnvironmentRequired "environment_required" BAD_REQUEST,
        "the environment is missing",
        "say which one with `environment`, such as `prod` or `beta`";
    InvalidSlug "invalid_slug" BAD_REQUEST,
        "the preview cannot be called that",
        "a slug is 1 to 255 lower-case letters, digits and single hyphens between them, and does not start with `i-`; \
         what is longer than 21 is cut and given 6 digits of its hash";
    InvalidDomain "invalid_domain" BAD_REQUEST,
        "the domain is not one",
        "name it without scheme, port, path and final dot, such as `www.example.com`; any script will do";
    DomainRequired "domain_required" BAD_REQUEST,
        "the domain is missing",
        "say which one with `domain`";
    InvalidPrefix "invalid_prefix" BAD_REQUEST,
        "the prefix is not the path of a folder",
        "`slug` is `/`, or a path such as `docs` or `/a/b`, decoded and at most 200 bytes long";
    InvalidImageHosts "invalid_image_hosts" BAD_REQUEST,
        "`image_hosts` has none of its values",
        "it is `public`, `protected` or `off`";
    InvalidImageId "invalid_image_id" BAD_REQUEST,
        "an image's id is not one",
        "an image's id is `img_` and 32 hex digits, as the commit answered it";
    InvalidEmail "invalid_email" BAD_REQUEST,
        "the email is not one",
        "an email has a name, an `@` and a domain with a dot";
    InvalidName "invalid_name" BAD_REQUEST,
        "the token cannot be called that",
        "say in a few words what it is for, such as `ci of my-site`";
    InvalidScope "invalid_scope" BAD_REQUEST,
        "the scope is none",
        "it is `read`, `deploy` or `admin`; each includes those before it";
    InvalidTime "invalid_time" BAD_REQUEST,
        "a time cannot be read",
        "write it in UTC by RFC 3339, such as `2026-01-31T12:00:00Z`";
    SideRequired "side_required" BAD_REQUEST,
        "a side of the comparison is missing",
        "name it with `from` or `to`: an image's id, or an environment such as `prod`";
    InvalidIdempotencyKey "invalid_idempotency_key" BAD_REQUEST,
        "the Idempotency-Key is not one",
        "send it once, with 1 to 255 visible ASCII characters";
    IdempotencyKeyRequired "idempotency_key_required" BAD_REQUEST,
        "a rollback without an image needs an Idempotency-Key",
        "without an image, each rollback goes a step further back: name the image with `image_id`, or send a new \
         Idempotency-Key and keep it for retries";
    BlobNotInPlan "blob_not_in_plan" BAD_REQUEST,
        "the plan has no file with this hash",
        "upload what the plan's answer lists in `missing`";
    HashMismatch "hash_mismatch" BAD_REQUEST,
        "the bytes do not have the hash that they were uploaded under",
        "the file may have changed since it was hashed: plan again";
    SizeMismatch "size_mismatch" BAD_REQUEST,
        "there are more or fewer bytes than were announced",
        "the file may have changed since it was measured: plan again";
    InvalidBatch "invalid_batch" BAD_REQUEST,
        "the batch cannot be read to its end",
        "send each file as its hash (32 bytes), its length (4 bytes, little-endian) and its bytes, and no part of \
         one; a `Content-Encoding` may be `zstd`, with a window of at most 8 MiB";
    UploadBroken "upload_broken" BAD_REQUEST,
        "the body broke off before its end",
        "send it again: nothing of it was kept";

    Unauthorized "unauthorized" UNAUTHORIZED,
        "a valid token is missing",
        "send `Authorization: Bearer` and the token; the server's first start says where the owner's is";

    WrongCredentials "wrong_credentials" UNAUTHORIZED,
        "the email or the password is wrong",
        "check both; the owner can also use the token in the server's data folder";

    InsufficientScope "insufficient_scope" FORBIDDEN,
        "the token is not for this",
        "use one with a wider scope, or one for this project and environment: `GET /me` says what this one is for";
    RegistrationClosed "registration_closed" FORBIDDEN,
        "this server takes no new accounts",
        "ask whoever runs it; the owner registers with the owner's token";
    InviteInvalid "invite_invalid" FORBIDDEN,
        "registering takes a valid invitation",
        "send it as `invite`; each is for one account, and some are for one email: ask for a new one";
    OwnerOnly "owner_only" FORBIDDEN,
        "only the server's owner can do this",
        "ask whoever runs the server";
    OwnerStays "owner_stays" FORBIDDEN,
        "the built-in owner cannot be deleted",
        "delete projects one by one instead";
    OwnersToken "owners_token" FORBIDDEN,
        "the owner's token does not end by signing out",
        "`pinstone admin rotate-owner-token` makes a new one in its place";
    WrongPassword "wrong_password" FORBIDDEN,
        "the current password is wrong",
        "send it as `current_password`; the owner's token changes the owner's password without it";

    ProjectTaken "project_taken" FORBIDDEN,
        "another team has a project of this name, or had it lately",
        "choose another name; `GET /subdomain/check` suggests one";

    HttpsRequired "https_required" FORBIDDEN,
        "this server takes no calls without TLS",
        "use an endpoint that starts with https://, and make a new token if this one went over a network";

    NotFound "not_found" NOT_FOUND,
        "there is nothing at this address",
        "the API is under `/api/v1`";
    PlanNotFound "plan_not_found" NOT_FOUND,
        "there is no such plan",
        "make one with `POST /plan`";
    ProjectNotFound "project_not_found" NOT_FOUND,
        "there is no such project",
        "the first plan of a project makes it";
    ImageNotFound "image_not_found" NOT_FOUND,
        "the project has no such image",
        "`GET /images` lists those that it has";
    EnvironmentNotFound "environment_not_found" NOT_FOUND,
        "the project has no such environment",
        "`GET /environments` lists those that it has";
    PreviewNotFound "preview_not_found" NOT_FOUND,
        "the project has no such preview",
        "`GET /previews` lists those that it has";

    TokenNotFound "token_not_found" NOT_FOUND,
        "there is no such token",
        "`GET /tokens` lists those that there are";
    InviteNotFound "invite_not_found" NOT_FOUND,
        "there is no such invitation",
        "`GET /invites` lists those that still hold";

    DomainNotFound "domain_not_found" NOT_FOUND,
        "there is no such domain",
        "`GET /domains` lists those that there are; a prefix is named behind the domain, as in `example.com/docs`";

    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED,
        "this address does not take this method",
        "the `Allow` field lists those that it takes";

    RequestTimeout "request_timeout" REQUEST_TIMEOUT,
        "the body did not arrive in time",
        "send it again: nothing of it was kept";

    ReleaseConflict "release_conflict" CONFLICT,
        "the environment shows something else by now",
        "look at `GET /current`, then decide again";
    NameIsPreview "name_is_preview" CONFLICT,
        "the environment is a preview, and releases do not make it last",
        "choose another name, or delete the preview first; `POST /preview` with its slug lets it show another image";
    NameIsEnvironment "name_is_environment" CONFLICT,
        "the slug is the name of an environment that lasts",
        "choose another slug; `prod` and `beta` are never previews, and `GET /environments` lists the names in use";
    ProjectExists "project_exists" CONFLICT,
        "the team has a project of this name",
        "publish to it, or choose another name; `GET /projects` lists those that there are";
    TooManyNames "too_many_names" CONFLICT,
        "the project was renamed too often",
        "each former name leads to the project for 30 days: rename it when the oldest of them is over";
    DomainExists "domain_exists" CONFLICT,
        "the domain shows something under this prefix already",
        "remove that first, or name another prefix with `slug`; `GET /domains` lists them";
    DomainTaken "domain_taken" CONFLICT,
        "another team has proven that the domain is its own",
        "that team removes it first; if it is not theirs any more, let its TXT record go, and it ends after a while";
    DomainHeld "domain_held" CONFLICT,
        "the domain was removed by another team a while ago",
        "wait until it is free, or ask that team to add it again and keep it";
    DomainAmbiguous "domain_ambiguous" CONFLICT,
        "the domain has several prefixes",
        "name one behind the domain: `example.com/docs`, or `example.com/` for the one without";
    EmailTaken "email_taken" CONFLICT,
        "there is an account by this email",
        "sign in with `POST /auth/login`";
    OwnerRegistered "owner_registered" CONFLICT,
        "the owner has an email and a password already",
        "sign in with them, or set a new password by `POST /auth/password` with the owner's token";
    CommitConflict "commit_conflict" CONFLICT,
        "the plan was changed by another call meanwhile",
        "ask again: a commit of the same plan is safe to repeat";
    MissingBlobs "missing_blobs" CONFLICT,
        "not all files of the plan are uploaded",
        "`GET /plans/{plan_id}` lists what is missing: upload it, then commit again";

    PlanOver "plan_over" GONE,
        "the plan is over",
        "plan again: what was uploaded is still there";
    ImageCollected "image_collected" GONE,
        "the image is no longer kept",
        "publish its content again";

    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE,
        "the body is larger than this call takes",
        "send only the fields that the call has";
    PlanTooLarge "plan_too_large" PAYLOAD_TOO_LARGE,
        "the plan's JSON is larger than the limit",
        "`GET /config` names the limits; publish less at once";
    FileTooLarge "file_too_large" PAYLOAD_TOO_LARGE,
        "a file is larger than the limit",
        "`GET /config` names the limits";

    PublishTooLarge "publish_too_large" PAYLOAD_TOO_LARGE,
        "all files together are larger than the limit",
        "`GET /config` names the limits; publish less, or ask whoever runs the server";
    BatchTooLarge "batch_too_large" PAYLOAD_TOO_LARGE,
        "the batch is larger than the limit",
        "`GET /config` names the limits; send less at once";
    BlobTooLargeForBatch "blob_too_large_for_batch" PAYLOAD_TOO_LARGE,
        "a file of the batch is too large for one",
        "upload it alone: `POST /upload/{plan_id}/{hash}`";
    ArchiveTooLarge "archive_too_large" PAYLOAD_TOO_LARGE,
        "the archive is larger than the limit",
        "`GET /config` names the limits; publish a folder by `pinstone deploy`, which sends only what is new";

    ArchiveUnknown "archive_unknown" UNSUPPORTED_MEDIA_TYPE,
        "the body is no archive that can be read",
        "send a tar, tar.gz, tar.zst or zip; its first bytes tell which it is, not its name";
    ArchiveInForm "archive_in_form" UNSUPPORTED_MEDIA_TYPE,
        "the body is a form",
        "send the archive as the body itself, as `curl -T site.tar.gz` does";

    UnsupportedEncoding "unsupported_encoding" UNSUPPORTED_MEDIA_TYPE,
        "the body has a Content-Encoding",
        "send the bytes as they are, without `Content-Encoding`";

    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE,
        "the body's type is not one that this call takes",
        "send `Content-Type: application/json`, without a Content-Encoding";

    PublicSuffix "public_suffix" UNPROCESSABLE_ENTITY,
        "a public suffix, such as `co.uk` or `github.io`, is nobody's domain",
        "name a domain below it";
    DomainReserved "domain_reserved" UNPROCESSABLE_ENTITY,
        "names under the server's own domain belong to its projects",
        "a project's name is its host: call the project so, or use a domain of your own";
    SystemDomain "system_domain" UNPROCESSABLE_ENTITY,
        "a project's own host stays as long as the project does",
        "call the project otherwise, or delete it";
    InvalidRedirect "invalid_redirect" UNPROCESSABLE_ENTITY,
        "visitors cannot be sent from this domain to that",
        "`redirect_to` is the same domain with or without `www.`, and does not send them back";
    TooManyDomains "too_many_domains" UNPROCESSABLE_ENTITY,
        "the team has as many domains as it may",
        "remove those that are not needed";
    NoFiles "no_files" UNPROCESSABLE_ENTITY,
        "the plan has no files",
        "a site has at least one file";
    TooManyContentTypes "too_many_content_types" UNPROCESSABLE_ENTITY,
        "the plan has too many different content types",
        "leave `content_type` out; the server takes it from the file's name";

    ProjectQuota "project_quota" UNPROCESSABLE_ENTITY,
        "the team has as many projects as it may",
        "delete one that is not needed, or ask whoever runs the server; `GET /usage` names the limit";
    StorageQuota "storage_quota" UNPROCESSABLE_ENTITY,
        "the team's images take up as many bytes as they may",
        "delete projects that are not needed, or ask whoever runs the server; `GET /usage` says what each takes up";
    TooManyFiles "too_many_files" UNPROCESSABLE_ENTITY,
        "the plan has more files than the limit",
        "`GET /config` names the limits; publish less at once";
    SizeConflict "size_conflict" UNPROCESSABLE_ENTITY,
        "two files of the plan have one hash and two sizes",
        "files with the same bytes have the same size: hash and measure them again";
    PlannedSizeMismatch "planned_size_mismatch" UNPROCESSABLE_ENTITY,
        "a file of the plan has another size than was planned",
        "the file may have changed since it was measured: plan again";
    ArchiveUnsupported "archive_unsupported" UNPROCESSABLE_ENTITY,
        "the archive has something in it that is not taken",
        "pack it by `tar` or `zip` without further options";
    ArchiveDamaged "archive_damaged" UNPROCESSABLE_ENTITY,
        "the archive is damaged or contradicts itself",
        "pack it again, and send all of it; `tar -t` and `unzip -t` check an archive";
    ArchivePath "archive_path" UNPROCESSABLE_ENTITY,
        "an entry of the archive has a name that cannot be that of a file in a site",
        "pack from within the folder, as by `tar -czf site.tar.gz -C folder .`; names are relative, in UTF-8, without \
         `..`, control characters or backslashes";
    ArchiveLink "archive_link" UNPROCESSABLE_ENTITY,
        "a link in the archive leads to nothing that could be published",
        "links to files of the same archive are followed; for others, pack what they lead to by `tar --dereference`, or \
         ignore them in `.pinstoneignore`";
    ArchiveSpecial "archive_special" UNPROCESSABLE_ENTITY,
        "the archive has an entry that is no file",
        "a site consists of files: leave out devices, pipes and sockets, or ignore them in `.pinstoneignore`";
    ArchiveDuplicate "archive_duplicate" UNPROCESSABLE_ENTITY,
        "two entries of the archive are in each other's place",
        "pack each file once, into a new archive: `tar -r` and `tar -u` leave the older one in it";
    ArchiveTooManyEntries "archive_too_many_entries" UNPROCESSABLE_ENTITY,
        "the archive has more entries than the limit",
        "`GET /config` names the limits; folders and ignored entries count";
    ArchiveRatio "archive_ratio" UNPROCESSABLE_ENTITY,
        "the archive unpacks to too many times its size",
        "publish the unpacked folder by `pinstone deploy`";
    ArchiveIgnoreFile "archive_ignore_file" UNPROCESSABLE_ENTITY,
        "the archive's `.pinstoneignore` cannot be used",
        "it has at most 64 KiB of lines in gitignore's syntax";
    MessageTooLong "message_too_long" UNPROCESSABLE_ENTITY,
        "the message is longer than the limit",
        "`GET /config` names the limits";
    InvalidPassword "invalid_password" UNPROCESSABLE_ENTITY,
        "the password is too short or too long",
        "choose another; a few words in a row are easy to keep and hard to guess";
    TooManyTokens "too_many_tokens" UNPROCESSABLE_ENTITY,
        "there are as many tokens as there can be",
        "revoke some that are not used: `GET /tokens` says when each was last used";
    TooManyInvites "too_many_invites" UNPROCESSABLE_ENTITY,
        "there are as many invitations as there can be",
        "delete some: `GET /invites` lists them";
    InvalidLifetime "invalid_lifetime" UNPROCESSABLE_ENTITY,
        "nothing of this kind lasts for so short or so long",
        "`expires_in` counts seconds; `GET /config` names the most for a preview as `preview_lifetime`";
    UnsupportedSetting "unsupported_setting" UNPROCESSABLE_ENTITY,
        "a setting has a value that this server does not serve",
        "`html` may be `keep`, `auto`, `none`, `drop-slash` or `force-slash`, `not_found` `404-page` or `spa`, `profile` \
         `native`";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY,
        "the Idempotency-Key belongs to another request",
        "send a new key with a new request";
    NothingCommitted "nothing_committed" UNPROCESSABLE_ENTITY,
        "the project has no image yet",
        "publish one: plan, upload, commit";
    NothingToRollBackTo "nothing_to_roll_back_to" UNPROCESSABLE_ENTITY,
        "there is no earlier image to go back to",
        "name an image with `image_id`";
    DiagnosticsRefused "diagnostics_refused" UNPROCESSABLE_ENTITY,
        "the commit is strict and the site has diagnostics",
        "commit without `strict` to see them, or mend them";

    RateLimited "rate_limited" TOO_MANY_REQUESTS,
        "the token makes more calls than it may",
        "wait as long as `Retry-After` says; `X-RateLimit-Remaining` says how many calls are left";
    TooManyAttempts "too_many_attempts" TOO_MANY_REQUESTS,
        "too many attempts failed",
        "wait as long as `Retry-After` says; elsewhere nobody is slowed down by it";

    Internal "internal" INTERNAL_SERVER_ERROR,
        "the server failed",
        "ask again later; the server's log has more under this answer's X-Request-Id";

    Unavailable "unavailable" SERVICE_UNAVAILABLE,
        "the server cannot answer now",
        "ask again in a few seconds";
    StorageUnavailable "storage_unavailable" SERVICE_UNAVAILABLE,
        "the store that keeps the files does not answer",
        "ask again in a few seconds: nothing of this call counts as done; `GET /health` says when the store is back";
    Busy "busy" SERVICE_UNAVAILABLE,
        "the server reads as many plans as it can hold",
        "ask again in a few seconds";

    StorageFull "storage_full" INSUFFICIENT_STORAGE,
        "the server has no room left",
        "make room on the server's disk: it goes on by itself then, without a restart";
}
