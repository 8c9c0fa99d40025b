//! `mvllm check-config`.

use std::process::ExitCode;

use super::{CheckConfigArgs, complain, live, say};
use crate::config::load;

pub(super) fn check_config(args: &CheckConfigArgs) -> ExitCode {
    match load(&args.config) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(&loaded.warnings.to_string());
            }
            let settings = loaded.settings;
            // Nobody is contacted: servers are being checked, or trusted where checks are off.
            let checked = settings.tuning.enable_active_health_check;
            let (sign, healthy) =
                if checked { ("🟡", 0) } else { ("✅", settings.servers.len()) };
            let mut lines = vec![
                "✅ Configuration loaded successfully".to_owned(),
                format!("   Total servers: {}", settings.servers.len()),
                format!("   Healthy servers: {healthy}"),
            ];
            lines.extend(settings.servers.iter().map(|server| {
                format!(
                    "   {sign} {} (max_concurrent: {})",
                    server.url, server.max_concurrent_requests
                )
            }));
            say(&lines.join("\n"));
            if args.live { live::check(&settings) } else { ExitCode::SUCCESS }
        }
        Err(report) => {
            say(&format!("❌ Configuration error: {report}"));
            ExitCode::FAILURE
        }
    }
}
