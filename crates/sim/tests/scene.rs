//! What tests of an island with its agent's mind have in common: when it begins, the mind, and a directive that asks for nothing.

use control::brain::{Brain, Config};
use control::envelope::MAX_VALIDITY;
use control::island::Island as Facts;
use model::envelope::{Directive, Envelope, Fence, Grant};
use model::module::Module;
use model::site::Site;
use model::{BootStamp, ModuleId, Span, Time};
use sim::island::{Island, Options};

/// Where simulated time begins.
pub const START: Time = Time(1_700_000_000_000);

/// A boot stamp of the simulated machine.
pub fn boot(at: Span) -> BootStamp {
    BootStamp { boot_id: "simulated".into(), at }
}

/// The island with these modules, whose gas is steady.
pub fn island(site: &Site, modules: &[Module]) -> Island {
    let options = Options { gas_variability: 0.0, ..Options::default() };
    Island::new(site, modules, 1, START, options)
}

/// The mind of the module's agent, with its reflex.
pub fn brain(site: &Site, module: &Module) -> Brain {
    let config = Config {
        module: module.clone(),
        island: Facts::of(site),
        validity: MAX_VALIDITY,
        reflex: true,
        sabotage: Default::default(),
    };
    Brain::new(config, None)
}

/// A directive of this generation, valid for two minutes, that grants this and asks for nothing.
pub fn directive(module: &ModuleId, generation: u64, at: Span, grant: Grant) -> Directive {
    let fence = Fence { epoch: 1, leader: 1, plan: 1 };
    let answers = boot(at);
    let module = module.clone();
    Directive::idle(Envelope { module, fence, generation, answers, valid_for: Span::secs(120), grant })
}
