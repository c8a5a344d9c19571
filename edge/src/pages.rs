//! The edge's own pages: small, whole in themselves, and without a word of the request, so nothing can be injected.

use crate::head::Status;

/// A built-in page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Page {
    /// Nobody's host.
    UnknownHost,
    /// A site's host, but no such file, and the site has no page of its own to say so.
    NotFound,
    /// A preview whose time is over.
    Expired,
    /// An image that is no longer kept.
    ImageGone,
    /// An image that is not for everybody.
    Protected,
    /// A request that cannot be understood.
    BadRequest,
    /// A request without a usable Host.
    BadHost,
    /// A host that the certificate of the connection is not for.
    Misdirected,
    /// A method that files do not have.
    Method,
    /// The client wanted other bytes.
    PreconditionFailed,
    /// A target that is too long.
    TargetTooLong,
    /// A range that the file does not have.
    RangeNotSatisfiable,
    /// Too many header fields.
    TooManyFields,
    /// What is stored is missing or damaged.
    Internal,
    /// A store does not answer.
    Unavailable,
}

macro_rules! html {
    ($title:literal, $text:literal) => {
        concat!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
            $title,
            "</title>\n<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;",
            "color-scheme:light dark}</style>\n<h1>",
            $title,
            "</h1>\n<p>",
            $text,
            "</p>\n</html>\n"
        )
    };
}

impl Page {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Unavailable as usize + 1;

    /// The status that the page goes with.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::UnknownHost | Self::NotFound => Status::NotFound,
            Self::Expired | Self::ImageGone => Status::Gone,
            Self::BadRequest | Self::BadHost => Status::BadRequest,
            // Not 401, which promises a challenge that can be met.
            Self::Protected => Status::Forbidden,
            Self::Misdirected => Status::Misdirected,
            Self::Method => Status::MethodNotAllowed,
            Self::PreconditionFailed => Status::PreconditionFailed,
            Self::TargetTooLong => Status::UriTooLong,
            Self::RangeNotSatisfiable => Status::RangeNotSatisfiable,
            Self::TooManyFields => Status::FieldsTooLarge,
            Self::Internal => Status::Internal,
            Self::Unavailable => Status::Unavailable,
        }
    }

    /// The page's bytes.
    #[must_use]
    pub fn html(self) -> &'static str {
        match self {
            Self::UnknownHost => html!("No site here", "No site is published under this name."),
            Self::NotFound => html!("Not found", "This site has no page at this address."),
            Self::Expired => html!(
                "Preview over",
                "This preview has reached the end of its time. Who made it can publish it again under the same address."
            ),
            Self::ImageGone => html!("Image gone", "This image is no longer kept."),
            Self::Protected => html!("Protected", "What is published under this address is not for everybody."),
            Self::BadRequest => html!("Bad request", "The request cannot be understood, so it was not answered."),
            Self::BadHost => {
                html!("Bad request", "A request needs exactly one Host, and it must be a valid name or address.")
            }
            Self::Misdirected => html!(
                "Wrong connection",
                "The certificate of this connection is not for the site that was asked for. Ask again over another one."
            ),
            Self::Method => html!("Method not allowed", "Files here can only be read: use GET or HEAD."),
            Self::PreconditionFailed => {
                html!("Precondition failed", "The file is not, or no longer, the one that the request was made for.")
            }
            Self::TargetTooLong => html!("Address too long", "The address of the request is too long."),
            Self::RangeNotSatisfiable => {
                html!("Range not satisfiable", "The file does not have the bytes that were asked for.")
            }
            Self::TooManyFields => html!("Too many fields", "The request has too many header fields."),
            Self::Internal => {
                html!("Something is broken", "This page is published, but its content could not be read.")
            }
            Self::Unavailable => {
                html!("Try again soon", "The content of this page cannot be reached at the moment. Try again soon.")
            }
        }
    }
}
