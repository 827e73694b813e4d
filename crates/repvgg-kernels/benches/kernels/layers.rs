//! Layers of real networks.

use repvgg_kernels::{ConvSpec, Geometry, Layout};

/// A convolution of a network, for a batch of images.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) batch: usize,
    /// `[C, K]`.
    pub(crate) channels: [usize; 2],
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) groups: usize,
    /// Height and width of the input.
    pub(crate) size: usize,
}

const fn conv3(name: &'static str, batch: usize, channels: [usize; 2], stride: usize, size: usize) -> Layer {
    Layer { name, batch, channels, kernel: 3, stride, groups: 1, size }
}

const fn conv1(name: &'static str, batch: usize, channels: [usize; 2], stride: usize, size: usize) -> Layer {
    Layer { name, batch, channels, kernel: 1, stride, groups: 1, size }
}

/// The layers of ImageNet networks that take the most time, for one image and for eight.
pub(crate) const INFERENCE: &[Layer] = &[
    conv3("RepVGG-A0 stage0", 1, [3, 48], 2, 224),
    conv3("RepVGG-A0 stage1.0", 1, [48, 48], 2, 112),
    conv3("RepVGG-A0 stage1.1", 1, [48, 48], 1, 56),
    conv3("RepVGG-A0 stage2.0", 1, [48, 96], 2, 56),
    conv3("RepVGG-A0 stage2.1", 1, [96, 96], 1, 28),
    conv3("RepVGG-A0 stage3.0", 1, [96, 192], 2, 28),
    conv3("RepVGG-A0 stage3.1", 1, [192, 192], 1, 14),
    conv3("RepVGG-A0 stage4.0", 1, [192, 1280], 2, 14),
    conv1("RepVGG-A0 linear", 1, [1280, 1000], 1, 1),
    conv3("RepVGG-A0 stage1.1", 8, [48, 48], 1, 56),
    conv3("RepVGG-A0 stage3.1", 8, [192, 192], 1, 14),
    conv3("RepVGG-A0 stage4.0", 8, [192, 1280], 2, 14),
    conv1("RepVGG-A0 linear", 8, [1280, 1000], 1, 1),
    conv3("RepVGG-B1 stage3.1", 1, [512, 512], 1, 14),
    conv3("RepVGG-B1 stage4.0", 1, [512, 2048], 2, 14),
    conv1("ResNet-50 layer1.0.conv3", 1, [64, 256], 1, 56),
    conv1("ResNet-50 layer3.1.conv1", 1, [1024, 256], 1, 14),
    conv3("ResNet-50 layer4.1.conv2", 1, [512, 512], 1, 7),
    Layer { groups: 32, ..conv3("ResNeXt-50 layer1.1.conv2", 1, [128, 128], 1, 56) },
    Layer { groups: 192, ..conv3("MobileNetV2 features.5.conv.1", 1, [192, 192], 1, 28) },
];

/// Layers of RepVGG on CIFAR-10 (strides 1, 1, 2, 2, 2 on 32×32) and layers of other widths, in training batches.
pub(crate) const TRAINING: &[Layer] = &[
    conv3("RepVGG-A0 stage0 3x3", 128, [3, 48], 1, 32),
    conv3("RepVGG-A0 stage1.1 3x3", 128, [48, 48], 1, 32),
    conv1("RepVGG-A0 stage1.1 1x1", 128, [48, 48], 1, 32),
    conv3("RepVGG-A0 stage2.0 3x3", 128, [48, 96], 2, 32),
    conv1("RepVGG-A0 stage2.0 1x1", 128, [48, 96], 2, 32),
    conv3("RepVGG-A0 stage2.1 3x3", 128, [96, 96], 1, 16),
    conv3("RepVGG-A0 stage3.0 3x3", 128, [96, 192], 2, 16),
    conv3("RepVGG-A0 stage3.1 3x3", 128, [192, 192], 1, 8),
    conv1("RepVGG-A0 stage3.1 1x1", 128, [192, 192], 1, 8),
    conv3("ResNet-20 layer1 3x3", 128, [16, 16], 1, 32),
    conv3("half a B0's stage1 3x3", 128, [32, 32], 1, 32),
    conv3("RepVGG-B0 stage1.1 3x3", 128, [64, 64], 1, 32),
    conv1("RepVGG-B0 stage1.1 1x1", 128, [64, 64], 1, 32),
    conv3("RepVGG-B0 stage2.1 3x3", 128, [128, 128], 1, 16),
    conv1("RepVGG-B0 stage2.1 1x1", 128, [128, 128], 1, 16),
    conv3("RepVGG-B0 stage3.1 3x3", 128, [256, 256], 1, 8),
    conv1("RepVGG-B0 stage3.1 1x1", 128, [256, 256], 1, 8),
    conv3("RepVGG-B0 stage3.1 3x3 at 4x4", 128, [256, 256], 1, 4),
    conv1("a classifier of 10 classes", 128, [256, 10], 1, 1),
    Layer { groups: 192, ..conv3("a depthwise 3x3 of 192", 64, [192, 192], 1, 16) },
];

impl Layer {
    /// The name and the sizes of the layer.
    pub(crate) fn label(&self) -> String {
        let Self { name, batch, channels: [c, k], size, .. } = self;
        format!("{name} {c}>{k} on {size}x{size}, batch {batch}")
    }

    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            in_channels: self.channels[0],
            out_channels: self.channels[1],
            kernel: [self.kernel; 2],
            stride: [self.stride; 2],
            padding: [self.kernel / 2; 2],
            dilation: [1; 2],
            groups: self.groups,
        }
    }

    /// Images are planar, all other maps blocked.
    pub(crate) fn spec(&self) -> ConvSpec {
        let layout = if self.channels[0] == 3 { Layout::Planar } else { Layout::Blocked };
        ConvSpec { geometry: self.geometry(), layout }
    }

    /// The number of pixels of an output map.
    pub(crate) fn outputs(&self) -> usize {
        self.size.div_ceil(self.stride).pow(2)
    }

    /// The multiply-adds of a direct convolution of the entire batch.
    pub(crate) fn macs(&self) -> f64 {
        (self.batch * self.outputs() * self.geometry().weight_len()) as f64
    }

    /// The numbers of elements of the input, the weights and the output of `batch` images.
    pub(crate) fn lens(&self, batch: usize) -> [usize; 3] {
        let [c, k] = self.channels;
        [batch * c * self.size.pow(2), self.geometry().weight_len(), batch * k * self.outputs()]
    }
}
