//! What one side of a comparison is: how it was typed, and which image that stands for.

use std::path::{Path, PathBuf};

use pinstone_api::wire::ImagesAnswer;
use pinstone_engine::id::ImageId;
use pinstone_engine::name::EnvironmentName;

use crate::client::{Client, Failure};
use crate::error::{CliError, Exit};
use crate::promote::current;
use crate::rollback::image_of;

/// How many images one call asks for.
const IMAGES: usize = 200;
/// The fewest digits that stand for an image.
const FEWEST_DIGITS: usize = 4;

/// One side of a comparison, as it was typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Typed {
    Image(ImageId),
    /// The first digits of an image's id, after `img_`.
    Prefix(String),
    Environment(EnvironmentName),
    Release(EnvironmentName, u64),
    Folder(PathBuf),
}

impl Typed {
    /// Reads what was typed.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        if text.contains('/') || matches!(text, "." | "..") {
            return Ok(Self::Folder(text.into()));
        }
        if let Some(digits) = text.strip_prefix("img_") {
            if let Ok(image) = text.parse() {
                return Ok(Self::Image(image));
            }
            let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_hex && (FEWEST_DIGITS..32).contains(&digits.len()) {
                return Ok(Self::Prefix(digits.to_ascii_lowercase()));
            }
            return Err(CliError::usage(format!("`{text}` is no image: its id is `img_` and 32 hex digits"))
                .hint(format!("give at least {FEWEST_DIGITS} of the digits; a folder of this name is `./{text}`")));
        }
        if let Some((name, number)) = text.split_once('#')
            && let (Ok(name), Ok(number)) = (name.parse(), number.parse())
        {
            return Ok(Self::Release(name, number));
        }
        // Names of environments have neither dots nor capitals, so `Public` and `my_site` arrive at the end.
        Ok(text.parse().map_or_else(|_| Self::Folder(text.into()), Self::Environment))
    }
}

/// The id of the image that `typed` stands for: an image, the first digits of one, an environment or one of its releases.
pub(crate) async fn image_called(client: &Client, project: &str, typed: &str) -> Result<String, CliError> {
    image(client, project, &(Typed::parse(typed)?, typed.to_owned())).await
}

/// The id of the image that a side stands for.
pub(super) async fn image(client: &Client, project: &str, (side, typed): &(Typed, String)) -> Result<String, CliError> {
    match side {
        Typed::Image(image) => Ok(image.to_string()),
        Typed::Prefix(digits) => image_of_prefix(client, project, digits).await,
        Typed::Release(environment, number) => image_of(client, project, environment, *number).await,
        Typed::Environment(environment) => match current(client, project, environment).await {
            Ok(shown) => Ok(shown.image_id),
            Err(failure) => {
                let is_folder = failure.code == "environment_not_found" && Path::new(typed).is_dir();
                let error = failure.of(typed);
                Err(if is_folder { error.hint(format!("the folder is written `./{typed}`")) } else { error })
            }
        },
        Typed::Folder(folder) => Err(CliError::usage(format!("`{}` is a folder, not an image", folder.display()))),
    }
}

/// The one image of a project whose id begins with `digits`.
async fn image_of_prefix(client: &Client, project: &str, digits: &str) -> Result<String, CliError> {
    let prefix = format!("img_{digits}");
    let mut found: Vec<String> = Vec::new();
    for page in 1_u64.. {
        let (page, limit) = (page.to_string(), IMAGES.to_string());
        let query = [("project", project), ("limit", &*limit), ("page", &*page)];
        let answer: ImagesAnswer = client.get(&["images"], &query).await?;
        let is_last = answer.images.len() < IMAGES;
        found.extend(answer.images.into_iter().map(|image| image.image_id).filter(|id| id.starts_with(&prefix)));
        if is_last {
            break;
        }
    }
    one_image(&prefix, found)
}

fn one_image(prefix: &str, mut found: Vec<String>) -> Result<String, CliError> {
    // Where somebody publishes meanwhile, an image moves to the next page and is met again.
    found.sort_unstable();
    found.dedup();
    match &found[..] {
        [] => Err(CliError::new(Exit::Failed, "image_not_found", format!("`{prefix}`: no image's id begins so"))
            .hint("`pinstone images` lists those that the project has")),
        [one] => Ok(one.clone()),
        [one, other, ..] => Err(CliError::usage(format!("`{prefix}` could be `{one}`, `{other}` or another"))
            .hint("give more of the digits")),
    }
}

/// Names which of `sides` the server does not have, where that is what `failure` says.
pub(super) async fn blame(client: &Client, project: &str, failure: Failure, sides: [&(Typed, String); 2]) -> CliError {
    if failure.code == "image_not_found" {
        for (side, typed) in sides {
            let Typed::Image(image) = side else { continue };
            let one: Result<serde_json::Value, Failure> =
                client.get(&["images", &image.to_string()], &[("project", project)]).await;
            match one {
                Err(failure) if failure.code == "image_not_found" => return failure.of(typed),
                _ => {}
            }
        }
    }
    failure.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let image = format!("img_{}", "ab".repeat(16));
        assert_eq!(Typed::parse(&image).unwrap(), Typed::Image(image.parse().unwrap()));
        assert_eq!(Typed::parse("beta").unwrap(), Typed::Environment(EnvironmentName::beta()));
        assert_eq!(Typed::parse("12").unwrap(), Typed::Environment("12".parse().unwrap()));
        assert_eq!(Typed::parse("prod#12").unwrap(), Typed::Release(EnvironmentName::prod(), 12));
        for (prefix, digits) in [("img_abcd", "abcd"), ("img_ABCD1", "abcd1"), (&image[..35], &image[4..35])] {
            assert_eq!(Typed::parse(prefix).unwrap(), Typed::Prefix(digits.to_owned()));
        }
        for folder in [".", "..", "./beta", "a/b", "/tmp", "Public", "my_site", "./img_abcd", "c#", "a#b", "#12", "a.b"]
        {
            assert_eq!(Typed::parse(folder).unwrap(), Typed::Folder(folder.into()), "{folder}");
        }
        for wrong in ["img_", "img_abc", "img_xyzw", &format!("{image}0")] {
            assert_eq!(Typed::parse(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn digits_stand_for_the_one_image_that_begins_with_them() {
        let found = |ids: &[&str]| one_image("img_ab", ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(found(&["img_ab1", "img_ab1"]).unwrap(), "img_ab1");
        let (none, two) = (found(&[]).unwrap_err(), found(&["img_ab2", "img_ab1"]).unwrap_err());
        assert_eq!((&*none.code, none.exit), ("image_not_found", Exit::Failed));
        assert!(two.exit == Exit::Usage && two.message.contains("`img_ab1`, `img_ab2`"), "{two}");
    }
}
