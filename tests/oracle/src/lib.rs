//! One job held by two judges: our `stratum` and SRI's server channel. Shared by the differential test and the bench.
//!
//! Assumes nothing of either: the job is made by the other side's own factory from a template, and ours is read from the
//! bytes it gives out. Next: `tests/differential.rs`, `benches/verify.rs`, docs/stratum-quirks.md.

use binary_sv2::{Seq0255Owned, U256Owned};
use bitcoin::{Amount, ScriptBuf, TxOut};
use channels_sv2::extranonce_manager::ExtranonceAllocator;
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use mining_sv2::SubmitSharesExtendedOwned;
use stratum::job::{Job, Slice};
use stratum::message::Submission;
use stratum::target::Target;
use template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

/// SplitMix64: a stream of numbers from a seed, the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    pub fn word(&mut self) -> u32 {
        self.draw() as u32
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.draw() as u8)
    }
}

/// What a job is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub branches: usize,
    /// Bytes of the script of the coinbase's own output: with 100 the coinbase has about 250 bytes.
    pub script: usize,
    pub extranonce2_size: usize,
    pub rolling: bool,
    pub nbits: u32,
    pub ntime: u32,
}

/// The same jobs in both hands.
pub struct Stage {
    pub shape: Shape,
    pub slice: Slice,
    pub target: Target,
    pub theirs: ExtendedChannel,
    /// Every job so far, newest last, with the number that their channel knows it by.
    pub jobs: Vec<(u32, Job)>,
    output: TxOut,
    sequence: u32,
}

impl Stage {
    /// Their channel refuses what it cannot build, which would be a mistake of this test: hence the panics.
    pub fn new(dice: &mut Dice, shape: Shape, target: Target) -> Stage {
        let mut prefixes =
            ExtranonceAllocator::new(dice.bytes::<4>().to_vec(), (8 + shape.extranonce2_size) as u8, 100)
                .expect("an allocator");
        let prefix = prefixes.allocate_extended(shape.extranonce2_size).expect("a prefix");
        let width = prefixes.rollable_extranonce_size();
        let easiest = bitcoin::Target::from_be_bytes([0xff; 32]);
        let mut theirs = ExtendedChannel::new_for_pool(
            1,
            "oracle".to_owned(),
            prefix,
            easiest,
            1e12,
            shape.rolling,
            u16::from(width),
            10,
            1e6,
            "pool".to_owned(),
            None,
        )
        .expect("a channel");
        theirs.set_target(bitcoin::Target::from_be_bytes(target.value().to_be_bytes())).expect("a target");
        let script = (0..shape.script).map(|_| dice.draw() as u8).collect();
        let output =
            TxOut { value: Amount::from_sat(312_500_000), script_pubkey: ScriptBuf::from_bytes(script) };
        let slice = Slice {
            extranonce1: theirs.get_extranonce_prefix().to_vec(),
            extranonce2_size: usize::from(theirs.get_rollable_extranonce_size()),
        };
        let mut stage = Stage { shape, slice, target, theirs, jobs: Vec::new(), output, sequence: 0 };
        stage.advance(dice);
        stage
    }

    /// The newest job.
    pub fn job(&self) -> &Job {
        &self.jobs.last().expect("a stage begins with a job").1
    }

    /// Another block: a new job, and all earlier ones are stale.
    pub fn advance(&mut self, dice: &mut Dice) {
        let id = self.jobs.len() as u64 + 1;
        let branches: Vec<[u8; 32]> = (0..self.shape.branches).map(|_| dice.bytes()).collect();
        self.theirs.on_new_template(template(id, &branches), vec![self.output.clone()]).expect("a template");
        let previous = dice.bytes::<32>();
        let tip = SetNewPrevHashOwned {
            template_id: id,
            prev_hash: U256Owned::try_from(previous.to_vec()).expect("32 bytes"),
            header_timestamp: self.shape.ntime,
            n_bits: self.shape.nbits,
            target: U256Owned::try_from([0; 32].to_vec()).expect("32 bytes"),
        };
        self.theirs.on_set_new_prev_hash(tip).expect("a chain tip");
        let active = self.theirs.get_active_job().expect("an active job");
        let job = Job {
            id: format!("{id:x}").into(),
            previous,
            coinb1: active.get_coinbase_tx_prefix_without_bip141(),
            coinb2: active.get_coinbase_tx_suffix_without_bip141(),
            branches,
            version: active.get_version(),
            nbits: self.shape.nbits,
            network: Target::from_nbits(self.shape.nbits).expect("nbits of a chain"),
            ntime: self.shape.ntime,
            clean: true,
        };
        self.jobs.push((active.get_job_id(), job));
    }

    /// Their verdict. Version 2 of the protocol carries the whole version, so the bits are put into the job's by BIP 310.
    pub fn their_verdict(
        &mut self,
        share: &Submission,
        job_number: u32,
        version: u32,
    ) -> Result<ShareValidationResult, ShareValidationError> {
        self.sequence += 1;
        self.theirs.validate_share(SubmitSharesExtendedOwned {
            channel_id: 1,
            sequence_number: self.sequence,
            job_id: job_number,
            nonce: share.nonce,
            ntime: share.ntime,
            version,
            extranonce: share.extranonce2.clone().try_into().expect("at most 32 bytes"),
        })
    }
}

fn template(id: u64, branches: &[[u8; 32]]) -> NewTemplateOwned {
    let path: Vec<U256Owned> =
        branches.iter().map(|branch| U256Owned::try_from(branch.to_vec()).expect("32 bytes")).collect();
    // The witness commitment's output, as a template provider gives it.
    let mut commitment = vec![0, 0, 0, 0, 0, 0, 0, 0, 38, 106, 36, 170, 33, 169, 237];
    commitment.extend([7; 32]);
    NewTemplateOwned {
        template_id: id,
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x0d].try_into().expect("a short prefix"),
        coinbase_tx_input_sequence: u32::MAX,
        coinbase_tx_value_remaining: 312_500_000,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: commitment.try_into().expect("one output"),
        coinbase_tx_locktime: 0,
        merkle_path: Seq0255Owned::new(path).expect("few branches"),
    }
}
