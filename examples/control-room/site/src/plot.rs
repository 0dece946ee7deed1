//! How the rate is plotted and figures are formatted, the same in every window.

use crate::history::SAMPLES;

/// Returns the top of a plot whose highest value is `peak`: the next of 10, 20, 50, 100 and so on,
/// which is easy to read and seldom changes.
pub fn scale(peak: u32) -> u32 {
    let mut top = 10_u32;
    for factor in [(2, 1), (5, 2), (2, 1)].into_iter().cycle() {
        if top >= peak {
            break;
        }
        match top.checked_mul(factor.0) {
            Some(next) => top = next / factor.1,
            None => return u32::MAX,
        }
    }
    top
}

/// Returns the points of the plot in a space of `width` by `height`, oldest first, y downwards.
///
/// It scrolls by `phase` (see [`Model::phase`](crate::Model::phase)) instead of jumping: the newest
/// sample waits just outside the right edge and moves in while the next one is being taken. For the
/// same reason the first points are left of the space; clip them.
pub fn points(
    history: &[u32],
    top: u32,
    phase: f64,
    (width, height): (f64, f64),
) -> impl ExactSizeIterator<Item = (f64, f64)> + '_ {
    let step = width / (SAMPLES - 2) as f64;
    history.iter().enumerate().map(move |(i, rate)| {
        let y = f64::from(*rate) / f64::from(top);
        ((i as f64 - phase) * step, height * (1.0 - y))
    })
}

/// Formats `number` with a comma at every third digit.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_next_round_number() {
        let round = [0, 10, 11, 21, 51, 101, 99_000].map(scale);
        assert_eq!(round, [10, 10, 20, 50, 100, 200, 100_000]);
        assert!(scale(u32::MAX) >= 4_000_000_000);
    }

    #[test]
    fn the_newest_point_moves_in_from_the_right() {
        let history = vec![5; SAMPLES];
        let newest = |phase| points(&history, 10, phase, (118.0, 40.0)).last().unwrap();
        assert_eq!(newest(0.0), (119.0, 20.0));
        assert_eq!(newest(1.0), (118.0, 20.0));
        let oldest = points(&history, 10, 1.0, (118.0, 40.0)).nth(1).unwrap();
        assert_eq!(oldest.0, 0.0);
    }

    #[test]
    fn commas_at_every_third_digit() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}
