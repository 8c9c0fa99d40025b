//! The router in this process.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::{AdminCommand, AdminError, AdminOrder, News};
use crate::status::StatusReport;

/// Passes on the first report and every later one, until nobody listens or the router stops.
pub(super) async fn report(
    mut reports: watch::Receiver<Arc<StatusReport>>,
    news: mpsc::Sender<News>,
) {
    reports.mark_changed();
    while reports.changed().await.is_ok() {
        let report = Arc::clone(&reports.borrow_and_update());
        if news.send(News::Report(report)).await.is_err() {
            return;
        }
    }
    let _ = news.send(News::Lost { why: AdminError::RouterStopped.to_string() }).await;
}

/// Passes commands to the router, and its answers back.
pub(super) async fn pass_on(
    mut commands: mpsc::UnboundedReceiver<AdminCommand>,
    orders: mpsc::Sender<AdminOrder>,
    news: mpsc::Sender<News>,
) {
    while let Some(command) = commands.recv().await {
        let outcome = order(&orders, command.clone()).await;
        if news.send(News::Answered { command, outcome }).await.is_err() {
            return;
        }
    }
}

async fn order(orders: &mpsc::Sender<AdminOrder>, command: AdminCommand) -> Result<(), AdminError> {
    let (answer, answered) = oneshot::channel();
    let stopped = AdminError::RouterStopped;
    if orders.send(AdminOrder { command, answer }).await.is_err() {
        return Err(stopped);
    }
    answered.await.unwrap_or(Err(stopped))
}

#[cfg(test)]
mod tests {
    use super::super::{Source, Verb};
    use super::*;
    use crate::monitor::samples;

    #[tokio::test]
    async fn the_first_report_and_every_later_one_is_told() {
        let (reports, out) = watch::channel(Arc::new(samples::report(Vec::new())));
        let (orders, _orders) = mpsc::channel(1);
        let mut feed = Source::Local { reports: out, orders }.open();
        assert!(matches!(feed.next().await, News::Report(report) if report.servers.is_empty()));
        reports.send_replace(Arc::new(samples::report(samples::fleet())));
        assert!(matches!(feed.next().await, News::Report(report) if report.servers.len() == 3));
        drop(reports);
        assert!(matches!(feed.next().await, News::Lost { why } if why == "the router has stopped"));
    }

    #[tokio::test]
    async fn a_command_comes_back_with_the_routers_answer() {
        let (_reports, out) = watch::channel(Arc::new(samples::report(Vec::new())));
        let (orders, mut orders_out) = mpsc::channel(1);
        let mut feed = Source::Local { reports: out, orders }.open();
        assert!(matches!(feed.next().await, News::Report(_)));
        let sent = AdminCommand { verb: Verb::Cordon, url: "http://gpu-1:8000".to_owned() };
        feed.order(sent.clone());
        let order = orders_out.recv().await.unwrap();
        assert_eq!(order.command, sent);
        order.answer.send(Err(AdminError::UnknownServer)).unwrap();
        let News::Answered { command, outcome } = feed.next().await else { panic!("no answer") };
        assert_eq!(command, sent);
        assert!(matches!(outcome, Err(AdminError::UnknownServer)));
    }

    #[tokio::test]
    async fn a_command_to_a_router_that_has_gone_says_so() {
        let (orders, orders_out) = mpsc::channel(1);
        drop(orders_out);
        let command = AdminCommand { verb: Verb::Cordon, url: "http://gpu-1:8000".to_owned() };
        assert!(matches!(order(&orders, command).await, Err(AdminError::RouterStopped)));
    }
}
