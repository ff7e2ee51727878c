//! SHELL: the command line that all daemons share, as clap sees it.

use std::path::PathBuf;

use crate::frame::Common;

/// The command line of a daemon whose own subcommands are `C`.
#[derive(Debug, clap::Parser)]
pub(crate) struct Arguments<C: clap::Subcommand> {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command<C>>,
}

/// What is to be done; nothing named means `run`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command<C: clap::Subcommand> {
    /// Run the daemon in the foreground (this is what no subcommand means)
    Run,
    /// Name every problem in the platform file; exit code 78 if there is an error
    Check {
        /// The file [default: what --config names]
        file: Option<PathBuf>,
    },
    /// What the file would change in the running daemon; exit code 3 if anything
    Plan {
        /// The file [default: what --config names]
        file: Option<PathBuf>,
    },
    /// Change to the file as it now is, in place, and print the result
    Reload,
    /// Change to another file, showing the plan first
    Apply {
        /// The file, which takes the place of the one that --config names [default: that one as it now is]
        file: Option<PathBuf>,
        /// Return to the file before unless `confirm` comes within this time, such as 5m
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Keep what `apply --confirm` made run
    Confirm,
    /// End a trial, or go back to the platform file that ran before; the last 10 are kept
    Rollback,
    /// One screen about the daemon, warnings first
    Status {
        /// Show it again every two seconds
        #[arg(long)]
        watch: bool,
        /// Only what is not well
        #[arg(long)]
        down: bool,
    },
    /// Take something gently out of service
    Drain {
        /// What: `status` shows the names; `this` for the whole daemon
        target: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        scope: Scope,
        /// Wait until its connections have ended, at most this long, such as 5m; exit code 6 if they have not
        #[arg(long, value_name = "TIME")]
        wait: Option<String>,
        /// With --wait: this many connections may be left
        #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "wait")]
        until_conns: u64,
    },
    /// Take something out of service at once
    Disable {
        /// What: `status` shows the names
        target: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        scope: Scope,
    },
    /// End a drain or disable
    #[command(visible_alias = "enable")]
    Undrain {
        /// What was drained or disabled
        target: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Give something another weight than the file does
    Weight {
        /// What: `status` shows the names
        target: String,
        /// The weight, 0 to 65535; `file` for the file's again
        weight: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        scope: Scope,
    },
    /// Observe and report, change nothing (an engineer is at work)
    Hold {
        #[command(flatten)]
        reason: Reason,
    },
    /// End a hold
    Unhold,
    /// How a request or connection would be treated, with the lines of the file
    Why {
        /// What to explain; each daemon says what it takes
        #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What a problem's code means
    Explain {
        /// Such as E0031
        code: String,
    },
    /// About the platform file's format
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    Own(C),
}

/// `config …`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON schema of the platform file, for editors
    Schema,
}

/// Why and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reason {
    /// Why; shown in status, logs and events
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) why: String,
    /// End it by itself after this time, such as 30m
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) lasting: Option<String>,
}

/// On which nodes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Scope {
    /// Do it here without the word of the other nodes of the pool; they take it over when they see this one
    #[arg(long, visible_alias = "force")]
    pub(crate) local: bool,
}

/// Takes the common options out of the arguments of `why`, which clap leaves alone because each daemon has its own there.
pub(crate) fn take_common(common: &Common, args: Vec<String>) -> (Common, Vec<String>) {
    let mut common = common.clone();
    let mut rest = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        match name {
            "--json" => common.json = true,
            "--no-color" => common.no_color = true,
            "--run-dir" => common.run_dir = value.or_else(|| args.next()).map(PathBuf::from),
            // The running daemon answers; these do not matter to the question.
            "--config" | "-c" | "--node" | "--state-dir" | "--log-level" => {
                if value.is_none() {
                    args.next();
                }
            }
            _ => rest.push(arg),
        }
    }
    (common, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_options_are_no_part_of_a_question() {
        let common = Common {
            config: PathBuf::from("/a"),
            node: None,
            run_dir: None,
            state_dir: None,
            json: false,
            no_color: false,
            log_level: None,
        };
        let words = "10.0.0.1:80 --json --from=10.0.0.2 --config /b --run-dir=/c --node lb1 -c /d --from 10.0.0.3";
        let (common, rest) = take_common(&common, words.split(' ').map(str::to_owned).collect());
        assert_eq!(
            rest,
            ["10.0.0.1:80", "--from=10.0.0.2", "--from", "10.0.0.3"]
        );
        assert_eq!(
            (common.json, common.run_dir),
            (true, Some(PathBuf::from("/c")))
        );
    }
}
