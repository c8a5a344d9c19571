//! Saying in the log that a certificate ends: 30 days before, 7 days, a day, and when it has.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::set::Certificate;

const DAY: i64 = 24 * 60 * 60;

/// How near the end is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    Month,
    Week,
    Day,
    Over,
}

/// How near the end of a certificate is; nothing while it is further away than 30 days.
pub(crate) fn stage(not_after: i64, now: i64) -> Option<Stage> {
    match not_after.saturating_sub(now) {
        // It is good in the second that it names.
        ..0 => Some(Stage::Over),
        left if left <= DAY => Some(Stage::Day),
        left if left <= 7 * DAY => Some(Stage::Week),
        left if left <= 30 * DAY => Some(Stage::Month),
        _ => None,
    }
}

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(PathBuf, i64), Stage>);

impl Told {
    /// Tells of each certificate that came nearer to its end.
    pub(super) fn tell(&mut self, all: &[Arc<Certificate>], now: u64) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for (certificate, stage) in self.news(all, now) {
            let names = certificate.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let file = certificate.source().display();
            let days = certificate.not_after().saturating_sub(now).div_euclid(DAY);
            match stage {
                Stage::Over => tracing::error!(%names, %file, "a certificate is over; browsers refuse it"),
                Stage::Day | Stage::Week | Stage::Month => {
                    tracing::warn!(%names, %file, days, "a certificate ends soon; renew it");
                }
            }
        }
    }

    fn news<'c>(&mut self, all: &'c [Arc<Certificate>], now: i64) -> Vec<(&'c Certificate, Stage)> {
        let mut told = HashMap::new();
        let mut news = Vec::new();
        for certificate in all {
            let Some(stage) = stage(certificate.not_after(), now) else { continue };
            let key = (certificate.source().to_owned(), certificate.not_after());
            if self.0.get(&key).is_none_or(|before| *before < stage) {
                news.push((&**certificate, stage));
            }
            told.insert(key, stage);
        }
        // What was renewed or removed is forgotten.
        self.0 = told;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_near_the_end_is() {
        let end = 1_000 * DAY;
        for (left, want) in [
            (31 * DAY, None),
            (30 * DAY + 1, None),
            (30 * DAY, Some(Stage::Month)),
            (7 * DAY + 1, Some(Stage::Month)),
            (7 * DAY, Some(Stage::Week)),
            (DAY, Some(Stage::Day)),
            (0, Some(Stage::Day)),
            (-1, Some(Stage::Over)),
        ] {
            assert_eq!(stage(end, end - left), want, "{left} s before the end");
        }
        assert_eq!(stage(i64::MIN, i64::MAX), Some(Stage::Over));
        assert!(Stage::Month < Stage::Week && Stage::Week < Stage::Day && Stage::Day < Stage::Over);
    }
}
