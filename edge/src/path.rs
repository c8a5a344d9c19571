//! From the path of a request to an entry of the manifest. Pure: no file system is ever asked.
//!
//! Order: decode once, refuse what no site can contain, collapse empty segments, take the host's prefix away, then look
//! for the page as the image's html mode has it. A path is decoded only here, so nothing can be encoded twice to slip
//! past a check.
//!
//! Every redirect made here is a single hop: the steps are taken together, and the one `Location` leads to the very
//! content that was meant, so none of them can loop. The exceptions say nothing about content: a path with empty
//! segments that leads nowhere is sent to the path without them, and a host's prefix to its start page; what is
//! answered there is no redirect. None can leave the host: a `Location` is `/` and a segment.

use std::borrow::Cow;

use pinstone_engine::manifest::{Entry, HtmlMode, Manifest};
use unicode_normalization::UnicodeNormalization;

mod decode;
mod location;
mod modes;
mod not_found;
mod prefix;
#[cfg(test)]
mod tests;

pub use decode::{PathError, decode};
pub use prefix::Prefix;

use modes::Step;
use prefix::Place;

/// What a path leads to in one image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution<'m> {
    /// This file.
    Found(Entry<'m>),
    /// The address where the content is: a path and the request's query, ready to be a `Location`.
    Redirect(String),
    /// Nothing; this page says so, where the site has one.
    NotFound(Option<Entry<'m>>),
    /// Nothing, on a site that is one page for all its addresses.
    Shell {
        /// That page, for a navigation: with status 200.
        shell: Entry<'m>,
        /// What anything else is answered with, where the site has a page that says so: with status 404.
        page: Option<Entry<'m>>,
    },
}

/// Finds what `raw_path` leads to, on a host that shows the whole image.
///
/// `query` is what follows the `?`; it is kept on a redirect.
///
/// # Errors
///
/// Says what of `raw_path` is refused.
pub fn resolve<'m>(manifest: &'m Manifest, raw_path: &str, query: Option<&str>) -> Result<Resolution<'m>, PathError> {
    resolve_under(manifest, None, raw_path, query)
}

/// Finds what `raw_path` leads to, on a host that shows the image under `prefix`.
///
/// The manifest sees what remains without the prefix, and every redirect gets it back. A path that is not under it
/// leads nowhere, and to no page of the image.
///
/// # Errors
///
/// Says what of `raw_path` is refused.
pub fn resolve_under<'m>(
    manifest: &'m Manifest,
    prefix: Option<Prefix<'_>>,
    raw_path: &str,
    query: Option<&str>,
) -> Result<Resolution<'m>, PathError> {
    let decoded = decode(raw_path)?;
    let collapsed = decode::collapse(&decoded);
    let whole = collapsed.as_deref().unwrap_or(&decoded);
    let redirect = |path: &str| Resolution::Redirect(location::location(prefix, path, query));
    let path = match prefix.map_or(Place::Inside(whole), |prefix| prefix.place(whole)) {
        Place::Inside(path) => path,
        // The start page has this address in every html mode.
        Place::Bare => return Ok(redirect("")),
        Place::Outside => return Ok(Resolution::NotFound(None)),
    };
    let mode = manifest.settings().html;
    let mut step = modes::find(manifest, mode, path);
    if step == Step::Miss && !path.is_ascii() {
        // Names typed or linked on one system and published from another differ in composition only.
        let composed: String = path.nfc().collect();
        if composed != path {
            step = modes::find(manifest, mode, &composed);
        }
    }
    Ok(match step {
        Step::Redirect(path) => redirect(&path),
        Step::Found(_) | Step::Miss if collapsed.is_some() => redirect(path),
        // `/fi%6ce` would be a second address of `/file`.
        Step::Found(_) if has_one_address(mode) && decode::has_needless_escape(raw_path) => redirect(path),
        Step::Found(entry) => Resolution::Found(entry),
        Step::Miss => not_found::resolution(manifest, path),
    })
}

/// The path as prefixes are compared with it: decoded, without a leading slash and without empty segments; nothing where it
/// is refused.
pub(crate) fn folder_of(raw_path: &str) -> Option<Cow<'_, str>> {
    let decoded = decode(raw_path).ok()?;
    Some(decode::collapse(&decoded).map_or(decoded, Cow::Owned))
}

/// Whether a page has one address only.
fn has_one_address(mode: HtmlMode) -> bool {
    match mode {
        HtmlMode::Auto | HtmlMode::DropSlash | HtmlMode::ForceSlash => true,
        HtmlMode::Keep | HtmlMode::None => false,
    }
}

fn visible<'m>(manifest: &'m Manifest, path: &str) -> Option<Entry<'m>> {
    manifest.get(path).filter(|entry| !entry.hidden)
}
