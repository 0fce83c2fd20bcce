"""Training: images with labels -> augmented crops -> a network -> ONNX with a model card.

Needs the extra ``train`` (torch, onnx), so nothing is imported here: import the modules.

``data``      samples, class targets, folds that keep fields together
``augment``   random crops
``network``   the U-Net as a torch module
``loop``      loss, settings, `fit`
``export``    ONNX with half-precision weights
``score``     pooled F1 and its interval
``card``      model cards
"""
