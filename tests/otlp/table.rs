//! The rules checked against one or more servers, as a table: plain, or as Markdown for docs/otlp.md.
//!
//! **Invariant:** the exit code is 0 only if the first server named keeps every MUST that could be judged.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use hyper::Uri;

use crate::case::Case;
use crate::rows::{self, Check, Level};
use crate::server::{Address, Server, Situation};
use crate::verdict::Fault;

const USAGE: &str = "--judge [--markdown] {--ours NAME | --server NAME URL [GRPC-URL] [SITUATION URL [GRPC-URL]]…}…

Situations, for rules that show only in a server that is set up so; without them those are not judged:
  --cors       lets pages of http://page.example send, with the same token
  --auth       asks for the bearer token a-token-of-the-conformance-suite
  --refusing   cannot take anything for the time being
  --strict     reads no keys in snake_case
  --cutting    throws away attributes past the first 8 of an item, and says so";

/// A server with the result of each rule.
struct Column {
    name: String,
    server: Server,
}

/// The result of a rule on one server.
enum Finding {
    Kept,
    Broken {
        cases: usize,
        of: usize,
        seen: String,
    },
    NotJudged(String),
}

/// Reads the rest of the command line, checks the servers by the rules, and prints.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what is asked for"
)]
pub(crate) fn judge(arguments: impl Iterator<Item = String>) -> ExitCode {
    let (columns, is_markdown) = match read(arguments) {
        Ok(read) => read,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A check that panics counts as failed and is reported so.
    std::panic::set_hook(Box::new(|_| {}));
    let mut lines: Vec<(&Check, Vec<Finding>)> = Vec::new();
    for check in rows::all() {
        let findings = columns.iter().map(|column| find(check, &column.server));
        lines.push((check, findings.collect()));
        if !is_markdown {
            let (check, findings) = lines.last().expect("just pushed");
            println!("{}", plain(check, findings));
        }
    }
    if is_markdown {
        print!("{}", markdown(&columns, &lines));
    } else {
        println!("\n{}", summary(&columns, &lines));
    }
    let broken = lines
        .iter()
        .filter(|(check, _)| check.level == Level::Must)
        .filter(|(_, findings)| matches!(findings.first(), Some(Finding::Broken { .. })));
    ExitCode::from(u8::from(broken.count() > 0))
}

fn read(arguments: impl Iterator<Item = String>) -> Result<(Vec<Column>, bool), String> {
    let mut is_markdown = false;
    // Options with the values that follow each.
    let mut options: Vec<(String, Vec<String>)> = Vec::new();
    for argument in arguments {
        match options.last_mut() {
            _ if argument.starts_with("--") => options.push((argument, Vec::new())),
            Some((_, values)) => values.push(argument),
            None => return Err(format!("{argument:?} belongs to no option")),
        }
    }
    let mut servers: Vec<(String, Option<HashMap<Situation, Address>>)> = Vec::new();
    for (option, values) in options {
        let situation = match (&*option, &*values) {
            ("--markdown", []) => {
                is_markdown = true;
                continue;
            }
            ("--ours", [name]) => {
                servers.push((name.clone(), None));
                continue;
            }
            ("--server", [name, addresses @ ..]) => {
                let plain = address(addresses)?;
                let addresses = HashMap::from([(Situation::Plain, plain)]);
                servers.push((name.clone(), Some(addresses)));
                continue;
            }
            ("--cors", _) => Situation::Cors,
            ("--auth", _) => Situation::Auth,
            ("--refusing", _) => Situation::Refusing,
            ("--strict", _) => Situation::Strict,
            ("--cutting", _) => Situation::Cutting,
            _ => return Err(format!("{option} {values:?} is not understood")),
        };
        let Some((_, Some(addresses))) = servers.last_mut() else {
            return Err(format!("{option} belongs to no server"));
        };
        addresses.insert(situation, address(&values)?);
    }
    if servers.is_empty() {
        return Err("no server is named".to_owned());
    }
    let columns = servers.into_iter().map(|(name, addresses)| {
        let server = match addresses {
            Some(addresses) => Server::foreign(addresses),
            None => Server::ours(),
        };
        let server = server.map_err(|error| error.to_string())?;
        Ok(Column { name, server })
    });
    Ok((columns.collect::<Result<_, String>>()?, is_markdown))
}

fn address(values: &[String]) -> Result<Address, String> {
    let url = |text: &String| {
        let text = match text.split_once("://") {
            Some(("http", _)) => text.clone(),
            Some(_) => return Err(format!("{text}: only http:// is spoken here")),
            None => format!("http://{text}"),
        };
        text.parse::<Uri>()
            .map_err(|error| format!("{text}: {error}"))
    };
    match values {
        [http] => Ok(Address {
            http: url(http)?,
            grpc: None,
        }),
        [http, grpc] => Ok(Address {
            http: url(http)?,
            grpc: Some(url(grpc)?),
        }),
        _ => Err(format!("{values:?} is no URL with a second one for gRPC")),
    }
}

/// Kept, if it is kept in every case that could be judged.
fn find(check: &Check, server: &Server) -> Finding {
    let mut broken: Vec<(Case, String)> = Vec::new();
    let mut not_judged = Vec::new();
    for case in check.cases {
        let run = AssertUnwindSafe(|| (check.run)(server, *case));
        match catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(Fault::Failed(seen))) => broken.push((*case, seen)),
            Ok(Err(Fault::NotJudged(why))) => not_judged.push(why),
            Err(_) => broken.push((*case, "the check itself broke".to_owned())),
        }
    }
    let of = check.cases.len();
    if let Some((case, seen)) = broken.first() {
        Finding::Broken {
            cases: broken.len(),
            of,
            seen: format!("{case}: {seen}"),
        }
    } else if not_judged.len() == of {
        Finding::NotJudged(not_judged.swap_remove(0))
    } else {
        Finding::Kept
    }
}

/// For a terminal; with one server there are no columns to name.
fn plain(check: &Check, findings: &[Finding]) -> String {
    let mut text = format!("{:<4} {:<9}", check.row, check.level.to_string());
    for finding in findings {
        let word = match finding {
            Finding::Kept => "passed",
            Finding::Broken { .. } => "FAILED",
            Finding::NotJudged(_) => "unseen",
        };
        text += &format!(" {word}");
    }
    text += &format!("  {}", check.rule);
    for finding in findings {
        match finding {
            Finding::Kept => {}
            Finding::Broken { cases, of, seen } => {
                text += &format!("\n       in {cases} of {of} cases; {seen}");
                text += &format!("\n       by {}", check.source);
            }
            Finding::NotJudged(why) => text += &format!("\n       {why}"),
        }
    }
    text
}

fn markdown(columns: &[Column], lines: &[(&Check, Vec<Finding>)]) -> String {
    let mut text = "| row | rule | judged by |".to_owned();
    for column in columns {
        text += &format!(" {} |", column.name);
    }
    text += "\n| --- | --- | --- |";
    text += &" --- |".repeat(columns.len());
    text += "\n";
    for (check, findings) in lines {
        text += &format!(
            "| {} | {} | {} ({}) |",
            check.row, check.rule, check.level, check.source
        );
        for finding in findings {
            let cell = match finding {
                Finding::Kept => "yes".to_owned(),
                Finding::Broken { cases, of, seen } => {
                    format!("**no**, in {cases} of {of} cases; {}", escaped(seen))
                }
                Finding::NotJudged(why) => format!("not seen: {}", escaped(why)),
            };
            text += &format!(" {cell} |");
        }
        text += "\n";
    }
    text + "\n" + &summary(columns, lines)
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('`', "'")
}

/// The number of rules of each level that each server keeps.
fn summary(columns: &[Column], lines: &[(&Check, Vec<Finding>)]) -> String {
    let mut text = String::new();
    for (index, column) in columns.iter().enumerate() {
        let mut parts = Vec::new();
        for level in [Level::Must, Level::Should, Level::Wish] {
            let of_level = || lines.iter().filter(|(check, _)| check.level == level);
            let kept = of_level().filter(|(_, found)| matches!(found[index], Finding::Kept));
            let unseen =
                of_level().filter(|(_, found)| matches!(found[index], Finding::NotJudged(_)));
            let judged = of_level().count() - unseen.count();
            parts.push(format!("{level} {} of {judged}", kept.count()));
        }
        let unseen = lines
            .iter()
            .filter(|(_, found)| matches!(found[index], Finding::NotJudged(_)));
        text += &format!("{}: {}", column.name, parts.join(", "));
        text += &format!("; not seen {}\n", unseen.count());
    }
    text
}
