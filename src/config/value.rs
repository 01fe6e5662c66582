//! Parses values: sizes, durations, ports, addresses, counts, lists.
//!
//! **Invariant:** an error names the valid form and never repeats the text, which may be a secret.

use std::net::IpAddr;
use std::time::Duration;

/// The port of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortSetting {
    #[default]
    Off,
    /// Port number; 0 = any free port.
    On(u16),
}

/// Returns whether `text` is `off`, or `false`, to which YAML turns an `off` or `no` without quotes.
pub(super) fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false")
}

pub(super) fn port(text: &str) -> Result<PortSetting, String> {
    match text {
        text if is_off(text) => Ok(PortSetting::Off),
        _ => text
            .parse()
            .map(PortSetting::On)
            .map_err(|_| "is not a port: write a number from 0 to 65535, or off".to_owned()),
    }
}

/// Parses a number of bytes: `64MiB`, `20 MB`, `4096`; binary and decimal units up to TiB and TB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 14] = [
        ("", 1),
        ("b", 1),
        ("kib", 1 << 10),
        ("ki", 1 << 10),
        ("mib", 1 << 20),
        ("mi", 1 << 20),
        ("gib", 1 << 30),
        ("gi", 1 << 30),
        ("tib", 1 << 40),
        ("ti", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
    ];
    number_and_unit(text, &UNITS)
        .ok_or_else(|| "is not a size: write 64MiB, 20 MB, or a number of bytes".to_owned())
}

/// Parses a size of at least one byte that this machine can address.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("is 0, which would refuse everything".to_owned()),
        bytes => usize::try_from(bytes).map_err(|_| "is more than can be addressed".to_owned()),
    }
}

/// Parses a duration: `200ms`, `8s`, `5m`, `1h`, `7d`; 0 needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let ms = if text == "0" {
        Some(0)
    } else {
        number_and_unit(text, &UNITS)
    };
    ms.map(Duration::from_millis)
        .ok_or_else(|| "is not a duration: write 200ms, 8s, 5m or 1h".to_owned())
}

/// Parses a duration above zero.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("is 0: a limit of time must be above zero".to_owned()),
        some => Ok(some),
    }
}

fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Parses a whole number of at least `least`.
pub(super) fn count<T>(text: &str, least: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("is not a whole number of at least {least}")),
    }
}

/// Parses a whole number, or `off`, which is 0.
pub(super) fn count_or_off(text: &str) -> Result<u32, String> {
    match text {
        text if is_off(text) => Ok(0),
        _ => text
            .parse()
            .map_err(|_| "is neither a whole number nor off".to_owned()),
    }
}

/// Parses `auto`, which is `None`, or a value of `parse`.
pub(super) fn auto<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        "auto" => Ok(None),
        _ => parse(text)
            .map(Some)
            .map_err(|error| format!("{error}, or auto")),
    }
}

/// Parses `off`, which is `None`, or a value of `parse`.
pub(super) fn or_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        text if is_off(text) => Ok(None),
        _ => parse(text)
            .map(Some)
            .map_err(|error| format!("{error}, or off")),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "yes" => Ok(true),
        "false" | "off" | "no" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// Parses one of a closed list of names.
pub(super) fn one_of<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T, String> {
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            format!("is not one of {}", names.join(", "))
        })
}

/// Returns the parts between commas, trimmed, without empty ones.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Parses addresses to bind, with or without the brackets that IPv6 has in URLs.
pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let addresses = list(text)
        .map(|part| {
            let bare = part
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(part);
            bare.parse()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "is not a list of IP addresses such as 127.0.0.1,::1".to_owned())?;
    if addresses.is_empty() {
        return Err("names no address".to_owned());
    }
    Ok(addresses)
}

/// Parses origins as browsers send them: scheme, host, and port if it is not the scheme's default (RFC 6454, section
/// 6.2).
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    list(text)
        .map(|origin| match origin.split_once("://") {
            Some(("http" | "https", host))
                if !host.is_empty() && !host.contains(['/', '?', '#', '*', '@']) =>
            {
                Ok(origin.to_ascii_lowercase())
            }
            _ => Err(
                "is not a list of origins such as https://app.example.com: no path, no *"
                    .to_owned(),
            ),
        })
        .collect()
}

/// Returns a size in the largest binary unit that divides it, as settings are written.
pub(super) fn show_size(bytes: u64) -> String {
    [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || bytes.to_string(),
            |(unit, shift)| format!("{}{unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests;
