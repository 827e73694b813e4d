//! The operations between convolutions, in GB/s read and written.

use repvgg_kernels::Blocked;
use repvgg_kernels::maps::{
    Affine, Map, MapMut, Pointwise, PoolWindow, SoftmaxForm, Term, global_mean, max_pool, softmax, sum,
};

use crate::Bench;
use crate::answers::floats;

/// A batch of random maps.
struct Maps {
    data: Vec<f32>,
    layout: Blocked,
}

impl Maps {
    fn new(bench: &Bench<'_>, shape: [usize; 4]) -> Self {
        let layout = Blocked { shape, lanes: bench.cpu.level.lanes() };
        Self { data: floats(layout.len(), &mut 1), layout }
    }

    fn map(&self) -> Map<'_> {
        Map::new(&self.data, self.layout)
    }
}

pub(crate) fn run(bench: &Bench<'_>) {
    let cpu = bench.cpu;
    let (stem, residual) = (Maps::new(bench, [1, 64, 112, 112]), Maps::new(bench, [1, 256, 56, 56]));
    let window = PoolWindow { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], padding: [1, 1] };
    case(bench, "ResNet-50 maxpool", &[&stem], [1, 64, 56, 56], |output| max_pool(cpu, window, stem.map(), output));
    case(bench, "ResNet-50 layer1 add", &[&residual, &residual], residual.layout.shape, |output| {
        let term = Term { map: residual.map(), affine: None };
        sum(cpu, [term, term].into_iter(), Some(Pointwise::Relu), output);
    });
    let [scale, shift] = [1.5, -0.5].map(|value| vec![value; residual.layout.blocks() * residual.layout.lanes]);
    case(bench, "batch norm and SiLU", &[&residual], residual.layout.shape, |output| {
        let affine = Some(Affine { scale: &scale, shift: &shift });
        sum(cpu, [Term { map: residual.map(), affine }].into_iter(), Some(Pointwise::Silu), output);
    });
    let last = Maps::new(bench, [1, 2048, 7, 7]);
    case(bench, "ResNet-50 avgpool", &[&last], [1, 2048, 1, 1], |output| global_mean(cpu, last.map(), output));
    let logits = Maps::new(bench, [8, 1000, 1, 1]);
    case(bench, "softmax of 1000 classes", &[&logits], logits.layout.shape, |output| {
        softmax(cpu, SoftmaxForm::Probabilities, logits.map(), output);
    });
}

fn case(bench: &Bench<'_>, name: &str, inputs: &[&Maps], shape: [usize; 4], mut kernel: impl FnMut(MapMut<'_>)) {
    if !bench.selects(name) {
        return;
    }
    let mut output = Maps::new(bench, shape);
    let layout = output.layout;
    let seconds = bench.fastest(|| kernel(MapMut::new(&mut output.data, layout)));
    assert!(output.data.iter().all(|x| x.is_finite()), "{name}: results are finite");
    let elements = inputs.iter().map(|input| input.data.len()).sum::<usize>() + output.data.len();
    let bytes = (elements * size_of::<f32>()) as f64;
    println!("{name:56} {:8.3} ms {:8.1} GB/s", seconds * 1e3, bytes / seconds / 1e9);
}
