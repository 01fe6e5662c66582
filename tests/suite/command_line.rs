//! Completions and the manual page, read by the programs that they are for.
//!
//! **Invariant:** the checks use what a shell offers and what `man` shows, not the text of a script.

use std::io::Write;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ruvvector-service");

fn print(args: &[&str]) -> String {
    let output = Command::new(BINARY)
        .args(args)
        // Invalid settings do not prevent this.
        .env("RUVVECTOR_SERVICE_PORT", "none")
        .output()
        .expect("the binary was built");
    assert!(output.status.success(), "{args:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The completions that bash offers after these words and Tab.
fn offered(words: &[&str]) -> Vec<String> {
    let script = r#"
        set -euo pipefail
        eval "$("$BINARY" completions bash)"
        COMP_WORDS=(ruvvector-service "$@")
        COMP_CWORD=$#
        read -ra said < <(complete -p ruvvector-service)
        for ((n = 0; n < ${#said[@]}; n++)); do
            [ "${said[n]}" != -F ] || complete=${said[n + 1]}
        done
        set +eu
        "$complete" ruvvector-service "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", script, "bash"])
        .args(words)
        .env("BINARY", BINARY)
        .output()
        .expect("bash is installed");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_settings_and_values() {
    for (words, expected) in [
        (&["comp"][..], &["completions"][..]),
        (&["--journal-max"], &["--journal-max-bytes"]),
        (&["journal", "v"], &["verify"]),
        (
            &["completions", ""],
            &["bash", "elvish", "fish", "powershell", "zsh"],
        ),
        (&["serve", "--store", ""], &["postgres", "sqlite"]),
        (&["--log-format", "j"], &["json"]),
        (&["migrate", "--imp"], &["--import-v0"]),
    ] {
        let offered: Vec<_> = offered(words)
            .into_iter()
            .filter(|word| {
                !word.starts_with('-') || words.last().is_some_and(|last| last.starts_with('-'))
            })
            .filter(|word| word != "help")
            .collect();
        assert_eq!(offered, expected, "{words:?}");
    }
}

#[test]
fn every_shell_has_a_script_that_it_can_read() {
    for (shell, reads) in [
        ("bash", Some("bash")),
        ("zsh", Some("zsh")),
        ("fish", Some("fish")),
        ("elvish", None),
        ("powershell", None),
    ] {
        let script = print(&["completions", shell]);
        assert!(script.contains("auto-migrate"), "{shell}: {script}");
        // zsh and fish are checked only if they are installed; bash is everywhere.
        let Some(Ok(mut child)) = reads.map(|program| {
            Command::new(program)
                .args(["-n", "/dev/stdin"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        }) else {
            assert_ne!(shell, "bash");
            continue;
        };
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(script.as_bytes()).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{shell}: {output:?}"
        );
    }
}

#[test]
fn the_manual_page_is_set_without_a_warning_and_has_its_sections() {
    let page = print(&["man"]);
    let mut child = Command::new("groff")
        .args(["-k", "-man", "-Tutf8", "-ww", "-P-cbou"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("groff is installed (package groff-base); scripts/test.sh sees to it");
    let mut input = child.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || input.write_all(page.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("it reads");
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && warnings.is_empty(), "{warnings}");
    let shown = String::from_utf8(output.stdout).expect("text");
    for part in [
        "ruvvector-service(8)",
        "\nSYNOPSIS\n",
        "ruvvector-service COMMAND",
        "\nCOMMANDS\n",
        "migrate [--import-v0]",
        "\nSETTINGS\n",
        "\nTHE JOURNAL\n",
        "--journal-max-bytes <SIZE>",
        "RUVVECTOR_JOURNAL_MAX_BYTES",
        "\nENVIRONMENT\n",
        "DATABASE_URL_FILE",
        "\nFILES\n",
        "\nSIGNALS\n",
        "\nEXIT STATUS\n",
        "\nEXAMPLES\n",
        "curl -d '{\"correlationId\":\"order-1\"",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
}
