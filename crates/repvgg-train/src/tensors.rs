//! Parameters on the framework's device.

use std::collections::BTreeMap;

use burn::tensor::{Device as BurnDevice, Tensor as BurnTensor, TensorData};
use repvgg::Tensor;

/// Tensors by parameter name, each flat; the graph knows the shapes.
pub(crate) type Tensors = BTreeMap<String, BurnTensor<1>>;

/// Copies a tensor to the device, flat.
pub(crate) fn upload(tensor: &Tensor, device: &BurnDevice) -> BurnTensor<1> {
    let data = TensorData::new(tensor.data().to_vec(), [tensor.data().len()]);
    BurnTensor::from_data(data, device)
}

/// Copies a flat tensor from the device and gives it its shape.
pub(crate) fn download(tensor: &BurnTensor<1>, shape: Vec<usize>) -> Tensor {
    let data = tensor.to_data().try_into_vec().expect("parameters are single precision");
    Tensor::new(shape, data).expect("tensors keep the shapes that the graph gave them")
}
