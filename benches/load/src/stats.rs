//! Median, quartiles and ratios: a noisy machine makes means and minima worthless.

use serde::Serialize;

/// What some rounds measured, without the outliers' weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The first and the third quartile.
    pub(crate) q1: f64,
    pub(crate) q3: f64,
    /// One value a round, in the order they were measured.
    pub(crate) rounds: Vec<f64>,
}

impl Summary {
    /// Sums up finite values; `None` where there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let rounds = sorted.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            q1: quantile(&sorted, 0.25)?,
            q3: quantile(&sorted, 0.75)?,
            rounds,
        })
    }
}

/// The value below which `share` of `sorted` lies, interpolated between neighbours (R's type 7, NumPy's default).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    // `place` is at most the last index, so the cast keeps its value.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ place ≤ last")]
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// `ours / theirs`; `None` where that says nothing.
pub(crate) fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    (ours.is_finite() && theirs.is_finite() && theirs > 0.0).then(|| ours / theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        for (values, q1, median, q3) in [
            (vec![7.0], 7.0, 7.0, 7.0),
            (vec![2.0, 1.0], 1.25, 1.5, 1.75),
            (vec![3.0, 1.0, 2.0], 1.5, 2.0, 2.5),
            (vec![5.0, 1.0, 4.0, 2.0, 3.0], 2.0, 3.0, 4.0),
            (vec![1.0, 2.0, f64::NAN, 3.0, f64::INFINITY], 1.5, 2.0, 2.5),
            // One round that was disturbed moves neither the median nor a quartile far.
            (vec![10.0, 11.0, 10.5, 10.2, 900.0], 10.2, 10.5, 11.0),
        ] {
            let summary = Summary::of(&values).unwrap();
            assert_eq!((summary.q1, summary.median, summary.q3), (q1, median, q3), "{values:?}");
        }
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[f64::NAN]), None);
    }

    #[test]
    fn rounds_keep_their_order() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).unwrap().rounds, [3.0, 1.0, 2.0]);
    }

    #[test]
    fn ratios_that_say_nothing_are_none() {
        for (ours, theirs, want) in [
            (7.0, 10.0, Some(0.7)),
            (0.0, 10.0, Some(0.0)),
            (7.0, 0.0, None),
            (7.0, f64::NAN, None),
            (f64::NAN, 1.0, None),
        ] {
            assert_eq!(ratio(ours, theirs), want, "{ours} / {theirs}");
        }
    }
}
