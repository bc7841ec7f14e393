//! Resource quantities: `170Mi`, `100m`, `1G`.

/// The quantity in thousandths of its unit (bytes, cores), or `None` if it is not one.
#[must_use]
pub fn parse_milli(text: &str) -> Option<i128> {
    let digits_end = text
        .char_indices()
        .find(|(at, character)| {
            !(character.is_ascii_digit() || *character == '.' || (*at == 0 && "+-".contains(*character)))
        })
        .map_or(text.len(), |(at, _)| at);
    let (number, suffix) = text.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['+', '-']);
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() + fraction.len() > 24 {
        return None;
    }
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(exponent)?.checked_mul(1000)?, 1)
        }
    };
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let value = mantissa.checked_mul(numerator)? / (denominator * scale);
    Some(if negative { -value } else { value })
}

/// The quantity in whole units (bytes), rounded down; negative ones are none.
#[must_use]
pub fn parse_units(text: &str) -> Option<u64> {
    u64::try_from(parse_milli(text)? / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        assert_eq!(parse_units("170Mi"), Some(170 << 20));
        assert_eq!(parse_units("1.5Gi"), Some(3 << 29));
        assert_eq!(parse_units("1e3"), Some(1000));
        assert_eq!(parse_milli("100m"), Some(100));
        for bad in ["lots", "", "1Zi", ".", "1.2.3", "Mi", "1e-"] {
            assert_eq!(parse_milli(bad), None, "{bad}");
        }
    }
}
