//! Memory quantities, and the next limit after a kill for want of memory.

/// A quantity of memory in bytes, by the API's grammar (`170Mi`, `1.5G`, `12e6`, `128974848000m`). Fractions are
/// rounded up. `None`: not a quantity, negative, or beyond 2^63.
#[must_use]
pub fn parse_quantity(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // A decimal number is digits / 10^places; the suffix multiplies by numerator / denominator.
    let places = u32::try_from(fraction.len()).ok()?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (numerator, denominator) = scale(suffix)?;
    let denominator = denominator.checked_mul(10_u128.checked_pow(places)?)?;
    let bytes = digits.checked_mul(numerator)?.div_ceil(denominator);
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= i64::MAX.unsigned_abs())
}

fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

/// Bytes as a quantity: in the largest binary unit that states them exactly.
#[must_use]
pub fn format_quantity(bytes: u64) -> String {
    for (unit, suffix) in [(1_u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{suffix}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// The limit to set after a kill: `from` times `factor`, rounded up to whole MiB, at most `cap` (bytes).
/// `None`: there is no higher limit to set (already at the cap or above it, or the factor does not raise it).
#[must_use]
pub fn next_limit(from: u64, factor: f64, cap: u64) -> Option<u64> {
    const MIB: u64 = 1 << 20;
    if from == 0 || !factor.is_finite() || factor <= 1.0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and the result is rounded up to MiB and capped anyway"
    )]
    let wanted = (from as f64 * factor).ceil() as u64;
    let wanted = wanted.checked_next_multiple_of(MIB).unwrap_or(cap).min(cap);
    (wanted > from).then_some(wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_as_the_api_writes_them() {
        for (text, bytes) in [
            ("170Mi", Some(178_257_920)),
            ("7Mi", Some(7 << 20)),
            ("1Gi", Some(1 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("128974848", Some(128_974_848)),
            ("129e6", Some(129_000_000)),
            ("129E6", Some(129_000_000)),
            ("129M", Some(129_000_000)),
            ("128974848000m", Some(128_974_848)),
            ("1m", Some(1)),
            (".5Ki", Some(512)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("", None),
            (".", None),
            ("-1Mi", None),
            ("1.2.3", None),
            ("12Qi", None),
            ("99999999999999999999Ei", None),
            ("1e400", None),
        ] {
            assert_eq!(parse_quantity(text), bytes, "{text:?}");
        }
        assert_eq!(format_quantity(340 << 20), "340Mi");
        assert_eq!(format_quantity(1 << 30), "1Gi");
        assert_eq!(format_quantity(1000), "1000");
    }

    #[test]
    fn the_next_limit_doubles_up_to_the_cap() {
        let mi = |n: u64| n << 20;
        assert_eq!(next_limit(mi(170), 2.0, mi(1024)), Some(mi(340)));
        assert_eq!(next_limit(mi(680), 2.0, mi(1024)), Some(mi(1024)));
        assert_eq!(next_limit(mi(1024), 2.0, mi(1024)), None);
        assert_eq!(next_limit(mi(2048), 2.0, mi(1024)), None);
        assert_eq!(next_limit(mi(170), 1.0, mi(1024)), None);
        assert_eq!(next_limit(mi(170), f64::NAN, mi(1024)), None);
        assert_eq!(next_limit(u64::MAX / 2, 1e30, u64::MAX), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn never_lower_and_never_above_the_cap(from in any::<u64>(), factor in any::<f64>(), cap in any::<u64>()) {
            if let Some(next) = next_limit(from, factor, cap) {
                prop_assert!(next > from && next <= cap);
            }
        }

        #[test]
        fn what_is_written_is_read_back(bytes in 0..=i64::MAX.unsigned_abs()) {
            prop_assert_eq!(parse_quantity(&format_quantity(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_quantity(&text);
        }
    }
}
