//! SHELL: the common subcommands that work on a file or ask the running daemon. The only place of the frame that prints.

mod render;
mod wait;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conf::{Problem, Severity};
use serde_json::{Value, json};

use crate::cli::{self, Command, ConfigCommand, Reason, Scope};
use crate::client::{Client, ClientError, percent_encode};
use crate::control::Refused;
use crate::frame::{Common, Daemon, Exit};
use crate::live::Answer;

/// Time between two looks of `status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What concerns this node alone needs nobody's word.
const HERE: Scope = Scope { local: false };

/// Carries out a subcommand other than `run`.
pub(crate) fn execute<D: Daemon>(
    common: &Common,
    command: Command<D::Command>,
) -> anyhow::Result<Exit> {
    let client = Client::new(common, D::NAME);
    let asking = Asking {
        common,
        client: &client,
    };
    match command {
        Command::Run => anyhow::bail!("`run` is not a question"),
        Command::Plan { file } => asking.plan(file),
        Command::Reload => asking.reload(),
        Command::Apply { file, confirm, yes } => asking.apply(file, confirm.as_deref(), yes),
        Command::Confirm => asking.keep("/v1/confirm", "stays"),
        Command::Rollback => asking.keep("/v1/rollback", "changed back"),
        Command::Status { watch, down } => asking.status::<D>(watch, down),
        Command::Drain {
            target,
            reason,
            scope,
            wait,
            until_conns,
        } => {
            let wait = wait.as_deref().map(wait::time).transpose()?;
            asking.intend(&target, "drain", None, &reason, scope)?;
            match wait {
                Some(limit) => asking.wait_for_end(&target, limit, until_conns),
                None => Ok(Exit::Ok),
            }
        }
        Command::Disable {
            target,
            reason,
            scope,
        } => asking.intend(&target, "disable", None, &reason, scope),
        Command::Undrain { target, .. } if target == "this" => {
            asking.withdraw_any("this", &["service", "hold"])
        }
        Command::Undrain { target, scope } => asking.withdraw(&target, "service", scope),
        Command::Weight {
            target,
            weight,
            scope,
            ..
        } if weight == "file" => asking.withdraw(&target, "weight", scope),
        Command::Weight {
            target,
            weight,
            reason,
            scope,
        } => {
            let weight: u16 = weight.parse().map_err(|_| {
                Refused::new(
                    Exit::Usage,
                    format!("`{weight}` is no weight: write 0 to 65535, or `file`"),
                )
            })?;
            asking.intend(&target, "weight", Some(weight), &reason, scope)
        }
        Command::Hold { reason } => asking.intend("this", "hold", None, &reason, HERE),
        Command::Unhold => asking.withdraw("this", "hold", HERE),
        Command::Why { args } => {
            let (common, args) = cli::take_common(common, args);
            let client = Client::new(&common, D::NAME);
            let asking = Asking {
                common: &common,
                client: &client,
            };
            asking.why::<D>(&args)
        }
        Command::Check { file } => check::<D>(common, file.as_deref()),
        Command::Explain { code } => explain(&code),
        Command::Config(ConfigCommand::Schema) => {
            print(&format!("{:#}\n", conf::schema()));
            Ok(Exit::Ok)
        }
        Command::Own(own) => D::command(common, own),
    }
}

/// Prints to standard output. A reader that went away is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints to standard error.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard output takes colours.
fn colours(common: &Common) -> bool {
    !common.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal()
}

fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// `check`: judges the whole file for all three daemons, and what this one reads beside it.
fn check<D: Daemon>(common: &Common, file: Option<&Path>) -> anyhow::Result<Exit> {
    let file = file.unwrap_or(&common.config);
    let report = conf::load(file);
    let unknown_node = common
        .node
        .as_deref()
        .and_then(|node| report.unknown_node(node));
    let found: Vec<Problem> = D::inspect(&report.platform, &common.node_names())
        .into_iter()
        .map(|finding| report.problem_of(finding, D::TIER))
        .collect();
    let problems: Vec<_> = report
        .problems
        .iter()
        .chain(&unknown_node)
        .chain(&found)
        .collect();
    let failed = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    let judgement = render::judgement(&problems);
    if common.json {
        print_json(&json!({ "file": file, "problems": problems, "daemons": judgement }));
    } else {
        print(&report.render_all(problems.iter().copied(), colours(common)));
        print(&render::check_summary(file, &judgement));
    }
    Ok(if failed { Exit::Config } else { Exit::Ok })
}

fn explain(code: &str) -> anyhow::Result<Exit> {
    match conf::explain(code) {
        Some(text) => {
            print(&format!("{text}\n"));
            Ok(Exit::Ok)
        }
        None => Err(Refused::new(
            Exit::Usage,
            format!("`{code}` is no code of a problem; they look like E0031 or W0007"),
        )
        .into()),
    }
}

/// The file as the daemon must open it: absolute, since its working directory is another.
pub(crate) fn absolute(file: &Path) -> Result<PathBuf, Refused> {
    std::path::absolute(file)
        .map_err(|error| Refused::new(Exit::Usage, format!("{}: {error}", file.display())))
}

/// The subcommands that ask the running daemon.
struct Asking<'a> {
    common: &'a Common,
    client: &'a Client,
}

impl Asking<'_> {
    fn plan(&self, file: Option<PathBuf>) -> anyhow::Result<Exit> {
        let answer = match file {
            None => self.client.get("/v1/plan"),
            Some(file) => self
                .client
                .post("/v1/plan", &json!({ "file": absolute(&file)? })),
        }?;
        let changes = self.show_answer(&answer, "would change")?;
        Ok(if changes { Exit::Changes } else { Exit::Ok })
    }

    fn reload(&self) -> anyhow::Result<Exit> {
        let answer = self.client.post("/v1/reload", &json!({}))?;
        self.show_answer(&answer, "changed")?;
        Ok(Exit::Ok)
    }

    fn apply(
        &self,
        file: Option<PathBuf>,
        confirm: Option<&str>,
        yes: bool,
    ) -> anyhow::Result<Exit> {
        let file = file.map(|file| absolute(&file)).transpose()?;
        if !yes {
            let plan = self.client.post("/v1/plan", &json!({ "file": file }))?;
            let plan: Answer = serde_json::from_value(plan)?;
            complain(&render::answer(&plan, "would change", false));
            agreed()?;
        }
        let answer = self
            .client
            .post("/v1/apply", &json!({ "file": file, "confirm": confirm }))?;
        self.finish_change(&answer, "changed")
    }

    fn keep(&self, path: &str, verb: &str) -> anyhow::Result<Exit> {
        let answer = self.client.post(path, &json!({}))?;
        self.finish_change(&answer, verb)
    }

    /// Prints the result, and writes what the daemon may not write itself.
    fn finish_change(&self, answer: &Value, verb: &str) -> anyhow::Result<Exit> {
        self.show_answer(answer, verb)?;
        let answer: Answer = serde_json::from_value(answer.clone())?;
        for text in &answer.unwritten {
            crate::file::replace(&text.path, text.text.as_bytes()).map_err(|error| {
                let reason = format!(
                    "the change runs, but neither the daemon nor you may write {} ({error}): the next start would read what is there now; write the file with the right to do so",
                    text.path.display()
                );
                Refused::new(Exit::Refused, reason)
            })?;
        }
        Ok(Exit::Ok)
    }

    /// Prints what a change does or did; answers whether there is any.
    fn show_answer(&self, answer: &Value, verb: &str) -> anyhow::Result<bool> {
        let parsed: Answer = serde_json::from_value(answer.clone())?;
        if self.common.json {
            print_json(answer);
        } else {
            print(&render::answer(&parsed, verb, colours(self.common)));
        }
        Ok(!parsed.plan.is_empty())
    }

    fn status<D: Daemon>(&self, watch: bool, down: bool) -> anyhow::Result<Exit> {
        loop {
            let status = self.client.get("/v1/status");
            if watch && !self.common.json {
                // Cursor home, clear the screen: as `watch` does.
                print("\x1b[H\x1b[2J");
            }
            let ready = match status {
                Ok(status) => self.show_status::<D>(&status, down),
                // A daemon that restarts while it is watched comes back.
                Err(error) if watch => {
                    complain(&format!("error: {error}\n"));
                    false
                }
                Err(error) => return Err(error.into()),
            };
            if !watch {
                return Ok(if ready { Exit::Ok } else { Exit::Failed });
            }
            pause(WATCH_INTERVAL)?;
        }
    }

    fn show_status<D: Daemon>(&self, status: &Value, down: bool) -> bool {
        if self.common.json {
            print_json(status);
        } else {
            let mut text = render::envelope(status, colours(self.common));
            match down {
                true => D::render_down(&status["data"], &mut text),
                false => D::render_status(&status["data"], &mut text),
            }
            print(&text);
        }
        status["ready"].as_bool().unwrap_or(false)
    }

    fn intend(
        &self,
        target: &str,
        want: &str,
        weight: Option<u16>,
        reason: &Reason,
        scope: Scope,
    ) -> anyhow::Result<Exit> {
        let mut wish =
            json!({ "target": target, "want": want, "why": reason.why, "local": scope.local });
        if let Some(weight) = weight {
            wish["weight"] = json!(weight);
        }
        if let Some(lasting) = &reason.lasting {
            wish["for"] = json!(lasting);
        }
        let intent = self.client.post("/v1/intents", &wish)?;
        self.show_intent(&intent, "");
        Ok(Exit::Ok)
    }

    fn withdraw(&self, target: &str, slot: &str, scope: Scope) -> anyhow::Result<Exit> {
        let intent = self.take_back(target, slot, scope)?;
        self.show_intent(&intent, "no longer: ");
        Ok(Exit::Ok)
    }

    /// Withdraws whatever there is in these slots; refused only if there is nothing in any.
    fn withdraw_any(&self, target: &str, slots: &[&str]) -> anyhow::Result<Exit> {
        let mut refused = None;
        let mut done = false;
        for slot in slots {
            match self.take_back(target, slot, HERE) {
                Ok(intent) => {
                    self.show_intent(&intent, "no longer: ");
                    done = true;
                }
                Err(error) if error.refused.exit == Exit::Refused as u8 => refused = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        match refused {
            Some(error) if !done => Err(error.into()),
            _ => Ok(Exit::Ok),
        }
    }

    fn take_back(&self, target: &str, slot: &str, scope: Scope) -> Result<Value, ClientError> {
        self.client.post(
            "/v1/intents/withdraw",
            &json!({ "target": target, "slot": slot, "local": scope.local }),
        )
    }

    fn show_intent(&self, intent: &Value, before: &str) {
        if self.common.json {
            print_json(intent);
        } else {
            print(&format!("{before}{}\n", render::intent(intent)));
        }
    }

    fn why<D: Daemon>(&self, args: &[String]) -> anyhow::Result<Exit> {
        let query = percent_encode(&json!({ "args": args }).to_string());
        let answer = self.client.get(&format!("/v1/why?query={query}"))?;
        if self.common.json {
            print_json(&answer);
        } else {
            print(&D::render_why(&answer).unwrap_or_else(|| render::why(&answer)));
        }
        Ok(Exit::Ok)
    }
}

/// Asks the operator.
fn agreed() -> Result<(), Refused> {
    if !std::io::stdin().is_terminal() {
        return Err(Refused::new(
            Exit::Usage,
            "there is no terminal to ask on: give --yes to apply without asking",
        ));
    }
    complain("apply this? [y/N] ");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Refused::new(
        Exit::Refused,
        "not applied, nothing has changed",
    ))
}

fn pause(time: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The timer is made inside the runtime, which it needs.
    runtime.block_on(async { tokio::time::sleep(time).await });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_between_two_screens_ends() {
        pause(Duration::from_millis(1)).unwrap();
    }
}
