//! Tests of the parsing of values.
//!
//! **Invariant:** each value depends on its text alone.

use crate::config::value::*;

#[test]
fn sizes_take_binary_and_decimal_units_and_plain_bytes() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("64MiB", 64 << 20),
        ("64Mi", 64 << 20),
        ("64 mib", 64 << 20),
        ("20 MB", 20_000_000),
        ("4GiB", 4 << 30),
        ("1KB", 1000),
        ("3b", 3),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "MiB",
        "-1",
        "1.5GiB",
        "64 furlongs",
        "64M",
        "99999999TiB",
        "1 2",
        "٣",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
    assert!(memory("0").is_err());
}

#[test]
fn durations_have_units() {
    for (text, ms) in [
        ("0", 0),
        ("0s", 0),
        ("200ms", 200),
        ("8s", 8000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("2 d", 172_800_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in [
        "",
        "8",
        "s",
        "-1s",
        "1.5s",
        "1h30m",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(timeout("0").is_err());
}

#[test]
fn a_port_is_a_number_or_off() {
    assert_eq!(port("0"), Ok(PortSetting::On(0)));
    assert_eq!(port("65535"), Ok(PortSetting::On(65535)));
    assert_eq!(port("off"), Ok(PortSetting::Off));
    for text in ["", "65536", "-1", "http", "tcp://10.0.0.1:3100"] {
        assert!(port(text).is_err(), "{text}");
    }
}

#[test]
fn addresses_come_with_or_without_brackets() {
    assert_eq!(addresses("[::], 0.0.0.0").unwrap().len(), 2);
    assert_eq!(
        addresses("::1").unwrap(),
        ["::1".parse::<IpAddr>().unwrap()]
    );
    for text in ["", ",", "localhost", "[::", "127.0.0.1:3100"] {
        assert!(addresses(text).is_err(), "{text}");
    }
}

#[test]
fn an_origin_is_a_scheme_and_a_host() {
    assert_eq!(
        origins("https://App.example.com, http://localhost:3000").unwrap(),
        ["https://app.example.com", "http://localhost:3000"]
    );
    for text in [
        "*",
        "app.example.com",
        "https://",
        "https://a/b",
        "https://*.example.com",
    ] {
        assert!(origins(text).is_err(), "{text}");
    }
}

#[test]
fn a_shown_size_reads_back() {
    for bytes in [
        0,
        1,
        1023,
        1024,
        1536,
        20 << 20,
        256 << 20,
        4 << 30,
        5 << 40,
        u64::MAX,
    ] {
        assert_eq!(size(&show_size(bytes)), Ok(bytes));
    }
}
