//! CORE: the access log: its target and its format string.

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{
    AccessLog, AccessLogFormat, LogEscape, LogFormat, LogTarget, Syslog, SyslogAddress,
};
use crate::problems::{Tiers, nearest};
use crate::raw::settings as raw;

const KEY: &str = "edge.access_log";

impl Resolver<'_> {
    pub(super) fn access_log(&mut self, raw: Option<&At<raw::AccessLogRef>>) -> AccessLog {
        let empty = raw::AccessLogTable::default();
        let (target, table) = match raw.map(|raw| (&raw.value, raw.span)) {
            None => (None, &empty),
            Some((raw::AccessLogRef::Target(target), span)) => {
                let value = target.clone();
                (Some(At { value, span }), &empty)
            }
            Some((raw::AccessLogRef::Table(table), _)) => (table.target.clone(), &**table),
        };
        let target = match &target {
            None => Some(LogTarget::Stdout),
            Some(written) => self.log_target(written, priority(table)),
        };
        let facility = table.facility.as_ref().map(|word| (word.span, "facility"));
        let severity = table.severity.as_ref().map(|word| (word.span, "severity"));
        if let Some((span, key)) = facility.or(severity)
            && !matches!(target, None | Some(LogTarget::Syslog(_)))
        {
            self.report(
                codes::LOG_TARGET,
                Tiers::LAYER7,
                span,
                format!("{KEY}.{key}"),
                format!("`{key}` is for messages to syslog, and the target is another"),
            )
            .help("write `target = \"syslog:/dev/log\"`, or take it out");
        }
        AccessLog {
            target: target.unwrap_or(LogTarget::Stdout),
            format: self.log_format(table),
        }
    }

    fn log_target(&mut self, written: &At<String>, priority: u8) -> Option<LogTarget> {
        let to = match written.as_str() {
            "off" => return Some(LogTarget::Off),
            "stdout" => return Some(LogTarget::Stdout),
            path if path.starts_with('/') => return Some(LogTarget::File(path.to_owned())),
            other => other.strip_prefix("syslog:").and_then(syslog),
        };
        if let Some(to) = to {
            return Some(LogTarget::Syslog(Syslog { to, priority }));
        }
        self.report(
            codes::LOG_TARGET,
            Tiers::LAYER7,
            written.span,
            KEY,
            format!("the access log cannot be written to `{}`", written.value),
        )
        .help(
            "write \"off\", \"stdout\", an absolute path, \"syslog:/dev/log\" or \"syslog:udp:127.0.0.1:514\"",
        );
        None
    }

    fn log_format(&mut self, table: &raw::AccessLogTable) -> AccessLogFormat {
        let escape = match given(&table.escape) {
            Some(raw::LogEscape::Json) => LogEscape::Json,
            Some(raw::LogEscape::Default) | None => LogEscape::Default,
        };
        let Some(written) = &table.format else {
            return AccessLogFormat::Combined;
        };
        let (message, help) = match written.as_str() {
            "combined" => return AccessLogFormat::Combined,
            "json" => return AccessLogFormat::Json,
            text if text.contains('$') => match LogFormat::parse(text, escape) {
                Ok(format) => return AccessLogFormat::Custom(format),
                Err(problem) => (problem.message, problem.help),
            },
            other => (
                format!("`{other}` is no log format"),
                match nearest(other, ["combined", "json"]) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write \"combined\", \"json\", or a string with variables such as \"$remote_addr $status\"".to_owned(),
                },
            ),
        };
        self.report(
            codes::LOG_FORMAT,
            Tiers::LAYER7,
            written.span,
            format!("{KEY}.format"),
            message,
        )
        .help(help);
        AccessLogFormat::Combined
    }
}

/// What stands after `syslog:`.
fn syslog(written: &str) -> Option<SyslogAddress> {
    if written.starts_with('/') {
        return Some(SyslogAddress::Unix(written.to_owned()));
    }
    let address = written.strip_prefix("udp:")?.parse().ok()?;
    Some(SyslogAddress::Udp(address))
}

/// RFC 5424 section 6.2.1.
fn priority(table: &raw::AccessLogTable) -> u8 {
    let facility: u8 = match given(&table.facility) {
        Some(raw::SyslogFacility::User) => 1,
        Some(raw::SyslogFacility::Daemon) => 3,
        Some(raw::SyslogFacility::Auth) => 4,
        Some(raw::SyslogFacility::Authpriv) => 10,
        Some(raw::SyslogFacility::Local0) => 16,
        Some(raw::SyslogFacility::Local1) => 17,
        Some(raw::SyslogFacility::Local2) => 18,
        Some(raw::SyslogFacility::Local3) => 19,
        Some(raw::SyslogFacility::Local4) => 20,
        Some(raw::SyslogFacility::Local5) => 21,
        Some(raw::SyslogFacility::Local6) => 22,
        Some(raw::SyslogFacility::Local7) | None => 23,
    };
    let severity: u8 = match given(&table.severity) {
        Some(raw::SyslogSeverity::Error) => 3,
        Some(raw::SyslogSeverity::Warning) => 4,
        Some(raw::SyslogSeverity::Notice) => 5,
        Some(raw::SyslogSeverity::Info) | None => 6,
        Some(raw::SyslogSeverity::Debug) => 7,
    };
    facility * 8 + severity
}
