//! Several measurements of one thing, and tables of them.

use std::fmt;

/// The median of some values and their range.
#[derive(Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Panics if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Self {
            median: if values.len() % 2 == 1 {
                values[middle]
            } else {
                (values[middle - 1] + values[middle]) / 2.0
            },
            least: values[0],
            most: values[values.len() - 1],
        }
    }
}

/// `median (least–most)`, with as many digits after the point as the format asks for.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let digits = formatter.precision().unwrap_or(2);
        let Self {
            median,
            least,
            most,
        } = self;
        write!(
            formatter,
            "{median:.digits$} ({least:.digits$}–{most:.digits$})"
        )
    }
}

/// The mean of some values, and its standard error.
#[derive(Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    pub error: f64,
}

impl Mean {
    /// Panics if there are not two values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        assert!(values.len() > 1, "one value has no error");
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>();
        Self {
            mean,
            error: (squares / (count - 1.0) / count).sqrt(),
        }
    }
}

/// `mean ± error`, with three digits after the point.
impl fmt::Display for Mean {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:.3} ± {:.3}", self.mean, self.error)
    }
}

/// Prints a Markdown table: a name in the first column, figures in the others.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |", head.join(" | "));
    println!("|---|{}", "---:|".repeat(head.len() - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::{Mean, Spread};

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).to_string(), "2.00 (1.00–3.00)");
        assert_eq!(format!("{:.0}", Spread::of([4.0, 2.0])), "3 (2–4)");
    }

    #[test]
    fn a_mean_has_an_error() {
        assert_eq!(Mean::of([1.0, 2.0, 3.0, 6.0]).to_string(), "3.000 ± 1.080");
    }
}
