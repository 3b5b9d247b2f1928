//! `flareshift workload`.

use api::common::WorkloadOrder;
use api::common::subject::Kind;
use api::convert::field::wire_span;
use api::operator as wire;
use model::SoldBy;

use super::connect::{Connection, pages};
use super::{Error, answer_with, history};
use crate::args::{Output, SubmitArgs, WorkloadCommand};
use crate::output::workload::{List, Workload};

/// Runs a command about workloads.
pub(super) async fn run(
    connection: &Connection,
    command: WorkloadCommand,
    output: Output,
) -> Result<(), Error> {
    let mut client = connection.client();
    let answer = match command {
        WorkloadCommand::List { tenant, all } => {
            return answer_with(&list(connection, tenant.unwrap_or_default(), all).await?, output);
        }
        WorkloadCommand::Describe { workload } => {
            let request = wire::GetWorkloadRequest { workload: workload.clone() };
            let view = Workload::from(connection.ask(client.get_workload(request)).await?);
            return history::answer(connection, Kind::Workload(workload), view, output).await;
        }
        WorkloadCommand::Submit(submit) => {
            let request = order(*submit)?;
            connection.ask(client.submit_workload(request)).await?
        }
        WorkloadCommand::Cancel { workload, by, why } => {
            let (by, why) = (by.unwrap_or_default(), why.unwrap_or_default());
            let request = wire::CancelWorkloadRequest { workload, by, why };
            connection.ask(client.cancel_workload(request)).await?
        }
    };
    answer_with(&Workload::from(answer), output)
}

/// The order as the wire has it. An amount is GPU time: the run's length times its GPUs.
fn order(submit: SubmitArgs) -> Result<wire::SubmitWorkloadRequest, Error> {
    let SubmitArgs { tenant, offering, size, run_for, checkpoint, save, restart, affinity, .. } = submit;
    let (sold, units) = match (size.gpus, size.kilowatts) {
        (_, Some(kilowatts)) => (SoldBy::Kilowatt, kilowatts),
        (gpus, None) => (SoldBy::Gpu, gpus.unwrap_or_default()),
    };
    let amount = run_for.map(|span| {
        let product = span.millis().checked_mul(units.into());
        product.ok_or_else(|| {
            Error::Usage(format!("--for: {span} on {} is too long; choose a shorter one", sold.count(units)))
        })
    });
    let order = WorkloadOrder {
        offering,
        gpus: size.gpus.unwrap_or_default(),
        kilowatts: size.kilowatts,
        amount_gpu_milliseconds: amount.transpose()?,
        checkpoint: checkpoint.and_then(wire_span),
        save: save.and_then(wire_span),
        restart: restart.and_then(wire_span),
        affinity: affinity.wire(),
    };
    let request_id = submit.request_id.unwrap_or_default();
    let admission_override =
        submit.override_why.zip(submit.by).map(|(why, by)| wire::AdmissionOverride { by, why });
    Ok(wire::SubmitWorkloadRequest { tenant, order: Some(order), request_id, admission_override })
}

async fn list(connection: &Connection, tenant: String, all: bool) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let tenant = tenant.clone();
        let request = wire::ListWorkloadsRequest { page_size, page_token, tenant, include_final: all };
        let page = connection.ask(connection.client().list_workloads(request)).await?;
        Ok((page.workloads, page.next_page_token))
    };
    let workloads = pages("workloads", usize::MAX, fetch).await?;
    Ok(List { workloads: workloads.into_iter().map(Workload::from).collect() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Span;

    use super::*;
    use crate::args::SizeArgs;

    fn submit(gpus: u32, run_for: Option<Span>) -> SubmitArgs {
        let (tenant, offering) = ("acme".to_owned(), "h100-spot".to_owned());
        let checkpoint = Some(Span::new(1_500));
        SubmitArgs {
            tenant,
            offering,
            size: SizeArgs { gpus: Some(gpus), kilowatts: None },
            run_for,
            checkpoint,
            save: None,
            restart: None,
            affinity: Default::default(),
            request_id: None,
            override_why: None,
            by: None,
        }
    }

    #[test]
    fn an_override_says_who_and_why() {
        let plain = order(submit(8, None)).unwrap();
        assert_eq!(plain.admission_override, None);
        let (by, why) = ("ada".to_owned(), "a trial".to_owned());
        let asked = SubmitArgs { override_why: Some(why.clone()), by: Some(by.clone()), ..submit(8, None) };
        let sent = order(asked).unwrap().admission_override;
        assert_eq!(sent, Some(wire::AdmissionOverride { by, why }));
    }

    #[test]
    fn an_order_asks_for_gpu_time() {
        let check = |gpus: u32, run_for: Option<Span>, expected: Option<i64>| {
            let order = order(submit(gpus, run_for)).unwrap().order.unwrap();
            assert_eq!((order.amount_gpu_milliseconds, order.gpus), (expected, gpus));
            assert_eq!(order.checkpoint.map(|span| (span.seconds, span.nanos)), Some((1, 500_000_000)));
            assert_eq!(order.save, None);
        };
        check(8, None, None);
        check(8, Some(Span::hours(2)), Some(8 * 7_200_000));
    }

    #[test]
    fn an_order_of_kilowatts_asks_for_their_time() {
        let size = SizeArgs { gpus: None, kilowatts: Some(500) };
        let order = order(SubmitArgs { size, ..submit(8, Some(Span::hours(2))) }).unwrap().order.unwrap();
        assert_eq!((order.gpus, order.kilowatts), (0, Some(500)));
        assert_eq!(order.amount_gpu_milliseconds, Some(500 * 7_200_000));
    }

    #[test]
    fn an_amount_that_does_not_fit_is_a_usage_error() {
        let error = order(submit(u32::MAX, Some(Span::new(i64::MAX)))).unwrap_err();
        assert_eq!(error.code(), 2);
    }
}
