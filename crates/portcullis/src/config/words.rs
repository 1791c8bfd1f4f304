//! Words for sizes. Durations are `core::time`'s, rates `core::limit`'s.

/// Reads a size in words: `512B`, `64KiB`, `10MiB`, `1GiB`, or their decimal cousins `kB`, `MB`.
pub(crate) fn size(words: &str) -> Option<u64> {
    let split = words.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = words.split_at_checked(split)?;
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (words, bytes) in [
            ("1B", 1),
            ("10MiB", 10 << 20),
            ("64 KiB", 64 << 10),
            ("5kB", 5_000),
            ("2MB", 2_000_000),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(size(words), Some(bytes), "{words}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let huge = format!("{}GiB", u64::MAX);
        for words in ["", "10", "MiB", "10mib", "1.5MiB", "-1B", "0B", "10 M iB", huge.as_str()] {
            assert_eq!(size(words), None, "{words}");
        }
    }
}
