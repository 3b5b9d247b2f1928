//! `flareshift quote`.

use api::common;
use api::convert::field::wire_span;
use api::operator as wire;

use super::connect::Connection;
use super::{Error, answer_with};
use crate::args::{Output, QuoteArgs, Tier};
use crate::output::quote::Quote;

/// Asks for a quote.
pub(super) async fn run(connection: &Connection, asked: QuoteArgs, output: Output) -> Result<(), Error> {
    let answer = connection.ask(connection.client().get_quote(request(asked))).await?;
    answer_with(&Quote::from(answer), output)
}

fn request(asked: QuoteArgs) -> wire::GetQuoteRequest {
    let QuoteArgs { size, gpu_type, term, tier, deadline, availability } = asked;
    let tier = match tier {
        Tier::Firm => common::Tier::Firm,
        Tier::OnDemand => common::Tier::OnDemand,
        Tier::Spot => common::Tier::Spot,
    };
    wire::GetQuoteRequest {
        gpu: gpu_type.unwrap_or_default(),
        gpus: size.gpus.unwrap_or_default(),
        kilowatts: size.kilowatts,
        tier: tier.into(),
        term: wire_span(term),
        deadline: deadline.and_then(wire_span),
        level_permille: availability,
    }
}

#[cfg(test)]
mod tests {
    use model::Span;

    use super::*;
    use crate::args::SizeArgs;

    #[test]
    fn a_question_is_asked_as_it_was_put() {
        let asked = QuoteArgs {
            size: SizeArgs { gpus: Some(8), kilowatts: None },
            gpu_type: None,
            term: Span::hours(72),
            tier: Tier::OnDemand,
            deadline: Some(Span::hours(96)),
            availability: Some(0),
        };
        let sent = request(asked);
        assert_eq!((sent.gpu.as_str(), sent.gpus, sent.tier()), ("", 8, common::Tier::OnDemand));
        assert_eq!((sent.term, sent.deadline), (wire_span(Span::hours(72)), wire_span(Span::hours(96))));
        assert_eq!(sent.level_permille, Some(0), "none promised is not the same as not said");
        assert_eq!(sent.kilowatts, None);
    }
}
