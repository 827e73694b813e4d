//! Transfer of parameters to and from the framework's device.

use std::collections::BTreeMap;

use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor, TensorData};
use repvgg::Tensor;

/// Flat tensors by parameter name. Their shapes are those of the graph.
pub(crate) type Tensors = BTreeMap<String, BurnTensor<1>>;

/// Copies a tensor to the device, flattened.
pub(crate) fn upload(tensor: &Tensor, device: &BurnDevice) -> BurnTensor<1> {
    let data = TensorData::new(tensor.data().to_vec(), [tensor.data().len()]);
    BurnTensor::from_data(data, device)
}

/// Copies a flat tensor back from the device and restores its shape.
pub(crate) fn download(tensor: &BurnTensor<1>, shape: Vec<usize>) -> Tensor {
    let data = tensor.to_data().try_into_vec().expect("parameters have single precision");
    Tensor::new(shape, data).expect("tensors have the shapes of the graph")
}
