"""Every public name of version 0.1 with its parameters, written out and frozen.

What is listed here keeps working: add names to the package, and nothing to this list.
"""

from __future__ import annotations

NAMES: dict[str, str] = {
    "captum_mda": (
        "AttentionGradCam AttentionIntegratedGradients AttentionRollout "
        "BidirectionalAttention CausalActivationPatching FullGradPlus LeGrad "
        "LibraGrad MDAExplanation MetricDrivenAttribution RawAttention "
        "TokenInputXGradient TransformerAttribution TransformerInputSampling "
        "TransitionAttention VitCx blur_baseline confidence_blur_baseline metrics "
        "patch_feature_mask visualize"
    ),
    "captum_mda.attr": (
        "AttentionGradCam AttentionIntegratedGradients AttentionRollout "
        "BidirectionalAttention CausalActivationPatching Completeness FullGradPlus "
        "LeGrad MDAExplanation MetricDrivenAttribution RawAttention "
        "TokenInputXGradient TransformerAttribution TransformerInputSampling "
        "TransitionAttention ViTAttribution VitCx"
    ),
    "captum_mda.metrics": (
        "METRICS MaskedHits Metric PerturbationScores ResponseCurve "
        "SegmentationScores TokenDeletion aopc completeness_error deletion evaluate "
        "insertion lif_deletion mas_deletion mas_insertion masked_hits mif_deletion "
        "monotonicity negative_perturbation perturbation_scores "
        "perturbation_scores_of_maps pointing_game positive_perturbation "
        "response_curve segmentation_scores sparseness statistics "
        "symmetric_relevance_gain token_deletion"
    ),
    "captum_mda.metrics.statistics": (
        "Comparison MeanInterval compare comparison_table holm mean_interval"
    ),
    "captum_mda.visualize": (
        "denormalize explanation_figure maps_figure save_figure scores_figure"
    ),
    "captum_mda.demo": (
        "CLASS_NAMES DemoSamples IMAGE_SIZE MEAN PATCH_SIZE STD denormalize "
        "load_model make_samples to_pil"
    ),
    "captum_mda.backward": "LibraGrad RelevancePropagation",
    "captum_mda.curves": (
        "alignment_penalty area density_response mas_curve monotone_response normalized"
    ),
    "captum_mda.magnitude": (
        "DensitySolver FITTED_RULES FittedRule MAGNITUDE_RULES MagnitudeRule "
        "SOLVERS SOLVER_TOLERANCE Solver align_density aligned_difference "
        "blended_magnitudes dense_magnitudes density_of fit_density mean_penalty "
        "mean_response relative_sizes resampled solve_by_nnls solve_by_osqp "
        "sparse_magnitudes strictly_decreasing"
    ),
    "captum_mda.ordering": (
        "AutoOrdering DELETION EndPoints FastOrdering INSERTION JointOrdering "
        "ORDERINGS Ordering PaperOrdering RefinedOrdering RelaxedOrdering Screening "
        "SearchResult SearchTask complete expected_forwards forwards_of_paper "
        "measure_end_points order_examples ordering_name require_inputs_for "
        "resolved seed_scores"
    ),
    "captum_mda.perturbation": (
        "Features Path Ranking Response Score SubsetResponses Sweep Target "
        "blur_baseline confidence_blur_baseline format_baselines patch_feature_mask "
        "validate_inputs"
    ),
    "captum_mda.vit": (
        "AttentionCapture AttentionRecord BiasCapture CannotDropError "
        "ConstantParameters Observation ObservationError PatchLayout Pooling "
        "TokenStream ViTAdapter check_adapter eager_execution find_adapter "
        "gradients_enabled observe paint patch_numbers resolve"
    ),
}
"""Package -> its public names."""

CALLABLES: dict[str, str] = {
    "AttentionGradCam": "model, variant='mda', normalize=True, score='identity'",
    "AttentionGradCam.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "AttentionIntegratedGradients": "model, score='identity'",
    "AttentionIntegratedGradients.attribute": (
        "inputs, target=None, additional_forward_args=None, n_steps=20, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "AttentionRollout": "model, start_layer=0, score='identity'",
    "AttentionRollout.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "BidirectionalAttention": "model, mode='head', start_layer=None, score='identity'",
    "BidirectionalAttention.attribute": (
        "inputs, target=None, additional_forward_args=None, n_steps=20, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "CausalActivationPatching": (
        "model, layers=None, support=1, blank='zeros', subtract_blank=True, "
        "score='identity'"
    ),
    "CausalActivationPatching.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "CausalActivationPatching.patched_scores": (
        "inputs, selections, target=None, additional_forward_args=None, "
        "internal_batch_size=None, show_progress=False"
    ),
    "FullGradPlus": "model, biases=True, start_layer=0, score='identity'",
    "FullGradPlus.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "FullGradPlus.completeness": (
        "inputs, target=None, additional_forward_args=None, internal_batch_size=None"
    ),
    "LeGrad": "model, layers=-2, aggregate='sum', normalize=False, score='identity'",
    "LeGrad.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "LibraGrad": "model, attention=True, layer_norm=True, activation=True, gate=True",
    "MDAExplanation.attributions": "gamma=0.0, kappa=0.005",
    "MDAExplanation.feature_attributions": "gamma=0.0, kappa=0.005",
    "MDAExplanation.load": "path",
    "MDAExplanation.plot": "image=None, index=0, title=None, **options",
    "MDAExplanation.save": "path",
    "MDAExplanation.sufficient_patches": "share=0.9",
    "MDAExplanation.to": "*where, **named",
    "MetricDrivenAttribution": (
        "forward_func, solver='nnls', ordering='paper', magnitude='reference', "
        "score='softmax', on_degenerate='raise', mean_steps='patch', "
        "precision=None, refine=0"
    ),
    "MetricDrivenAttribution.attribute": (
        "inputs, baselines=None, target=None, additional_forward_args=None, "
        "feature_mask=None, insertion_baselines=None, seed_attributions=None, "
        "tau=0.9, gamma=0.0, kappa=0.005, return_input_shape=True, "
        "perturbations_per_eval=None, show_progress=False"
    ),
    "MetricDrivenAttribution.explain": (
        "inputs, baselines=None, target=None, additional_forward_args=None, "
        "feature_mask=None, insertion_baselines=None, seed_attributions=None, "
        "tau=0.9, perturbations_per_eval=None, show_progress=False"
    ),
    "RawAttention": "model, score='identity'",
    "RawAttention.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "TokenInputXGradient": "model, biases=False, score='identity'",
    "TokenInputXGradient.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "TokenInputXGradient.completeness": (
        "inputs, target=None, additional_forward_args=None, internal_batch_size=None"
    ),
    "TransformerAttribution": (
        "model, variant='mda', start_layer=None, dtype=torch.float64, score='identity'"
    ),
    "TransformerAttribution.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "TransformerInputSampling": (
        "model, n_masks=1024, keep_ratio=0.5, empty_clusters='keep', "
        "normalize=True, score='softmax'"
    ),
    "TransformerInputSampling.attribute": (
        "inputs, target=None, additional_forward_args=None, generator=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "TransitionAttention": "model, variant='mda', start_layer=0, score='identity'",
    "TransitionAttention.attribute": (
        "inputs, target=None, additional_forward_args=None, n_steps=20, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "VitCx": "model, threshold=0.1, noise=0.1, score='softmax'",
    "VitCx.attribute": (
        "inputs, target=None, additional_forward_args=None, generator=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "blur_baseline": "inputs, kernel_size, sigma=None",
    "confidence_blur_baseline": (
        "forward_func, inputs, target=None, additional_forward_args=None, "
        "kernel_sizes=range(31, 102, 2), max_confidence=0.01, score='softmax', "
        "on_failure='raise', perturbations_per_eval=None, return_kernel_sizes=False"
    ),
    "patch_feature_mask": "inputs_or_size, patch_size",
    "attr.ViTAttribution": "model, score='identity'",
    "attr.ViTAttribution.attribute": (
        "inputs, target=None, additional_forward_args=None, "
        "interpolate_mode='bilinear', internal_batch_size=None, show_progress=False"
    ),
    "metrics.MaskedHits.plot": "index=0, title=None",
    "metrics.MaskedHits.to": "*where, **named",
    "metrics.PerturbationScores.plot": "index=0, title=None",
    "metrics.PerturbationScores.to": "*where, **named",
    "metrics.ResponseCurve.plot": "index=0, title=None",
    "metrics.ResponseCurve.to": "*where, **named",
    "metrics.SegmentationScores.plot": "index=0, title=None",
    "metrics.SegmentationScores.to": "*where, **named",
    "metrics.TokenDeletion.plot": "index=0, title=None",
    "metrics.TokenDeletion.to": "*where, **named",
    "metrics.aopc": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, score='softmax', "
        "on_degenerate='raise'"
    ),
    "metrics.completeness_error": (
        "forward_func, inputs, attributions, baselines=None, "
        "additional_forward_args=None, target=None, max_examples_per_batch=None, *, "
        "score='identity'"
    ),
    "metrics.deletion": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, convention='mas', "
        "score='softmax', on_degenerate='raise'"
    ),
    "metrics.evaluate": (
        "forward_func, inputs, maps, target=None, *, insertion_baselines=None, "
        "deletion_baselines=None, feature_mask=None, additional_forward_args=None, "
        "masks=None, metrics=None, n_steps=224, max_examples_per_batch=None, "
        "show_progress=False, convention='mas', score='softmax', confidence=0.95, "
        "n_resamples=9999, seed=0, form='table'"
    ),
    "metrics.insertion": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, convention='mas', "
        "score='softmax', on_degenerate='raise'"
    ),
    "metrics.lif_deletion": (
        "model, inputs, attributions, baselines=None, additional_forward_args=None, "
        "target=None, max_examples_per_batch=None, show_progress=False, *, "
        "removal='auto', on_degenerate='raise'"
    ),
    "metrics.mas_deletion": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, score='softmax', "
        "on_degenerate='raise'"
    ),
    "metrics.mas_insertion": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, score='softmax', "
        "on_degenerate='raise'"
    ),
    "metrics.masked_hits": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, max_examples_per_batch=None, "
        "show_progress=False, *, first='most', fractions=(0.1, 0.2, 0.3, 0.4, 0.5, "
        "0.6, 0.7, 0.8, 0.9), on_degenerate='raise'"
    ),
    "metrics.mif_deletion": (
        "model, inputs, attributions, baselines=None, additional_forward_args=None, "
        "target=None, max_examples_per_batch=None, show_progress=False, *, "
        "removal='auto', on_degenerate='raise'"
    ),
    "metrics.monotonicity": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, mode='insertion', "
        "convention='mas', score='softmax', on_degenerate='raise'"
    ),
    "metrics.negative_perturbation": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, max_examples_per_batch=None, "
        "show_progress=False, *, on_degenerate='raise'"
    ),
    "metrics.perturbation_scores": (
        "forward_func, inputs, attributions, insertion_baselines=None, "
        "deletion_baselines=None, feature_mask=None, additional_forward_args=None, "
        "target=None, n_steps=224, max_examples_per_batch=None, "
        "show_progress=False, *, convention='mas', score='softmax', "
        "on_degenerate='raise', least_first=False"
    ),
    "metrics.perturbation_scores_of_maps": (
        "forward_func, inputs, maps, insertion_baselines=None, "
        "deletion_baselines=None, feature_mask=None, additional_forward_args=None, "
        "target=None, n_steps=224, max_examples_per_batch=None, "
        "show_progress=False, *, convention='mas', score='softmax', "
        "on_degenerate='raise', least_first=False"
    ),
    "metrics.pointing_game": "attributions, masks, tolerance=0, on_degenerate='raise'",
    "metrics.positive_perturbation": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, max_examples_per_batch=None, "
        "show_progress=False, *, on_degenerate='raise'"
    ),
    "metrics.response_curve": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, mode='insertion', "
        "convention='mas', score='softmax', on_degenerate='raise'"
    ),
    "metrics.segmentation_scores": (
        "attributions, masks, threshold='mean', convention='exact', "
        "on_degenerate='raise'"
    ),
    "metrics.sparseness": "attributions, feature_mask=None, on_degenerate='raise'",
    "metrics.symmetric_relevance_gain": (
        "forward_func, inputs, attributions, baselines=None, feature_mask=None, "
        "additional_forward_args=None, target=None, n_steps=224, "
        "max_examples_per_batch=None, show_progress=False, *, score='softmax', "
        "on_degenerate='raise'"
    ),
    "metrics.token_deletion": (
        "model, inputs, attributions, baselines=None, additional_forward_args=None, "
        "target=None, max_examples_per_batch=None, show_progress=False, *, "
        "first='most', fractions=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "
        "removal='auto', on_degenerate='raise'"
    ),
    "metrics.statistics.compare": (
        "scores, higher_is_better=None, reference=None, confidence=0.95, "
        "n_resamples=9999, seed=0, *, metric=None"
    ),
    "metrics.statistics.comparison_table": (
        "scores, higher_is_better=None, reference=None, confidence=0.95, "
        "n_resamples=9999, seed=0, *, metric=None"
    ),
    "metrics.statistics.holm": "p_values",
    "metrics.statistics.mean_interval": (
        "values, confidence=0.95, n_resamples=9999, seed=0"
    ),
    "visualize.denormalize": "images, mean, std",
    "visualize.explanation_figure": (
        "image, explanation, index=0, title=None, gammas=(0.0, 1.0), kappa=0.005, "
        "scores=None, caption=None, share=0.9, insertion_baseline=None, "
        "deletion_baseline=None"
    ),
    "visualize.maps_figure": (
        "image, maps, title=None, captions=None, n_columns=None, caption=None"
    ),
    "visualize.save_figure": "figure, path, dpi=150.0",
    "visualize.scores_figure": "scores, index=0, title=None",
    "demo.denormalize": "images",
    "demo.load_model": "",
    "demo.make_samples": "n, seed",
    "demo.to_pil": "image",
    "backward.RelevancePropagation": "model, dtype=torch.float64",
    "curves.alignment_penalty": "response, density",
    "curves.area": "curve",
    "curves.density_response": "mass, mode",
    "curves.mas_curve": "response, penalty, mode",
    "curves.monotone_response": "raw, baseline, full, mode",
    "curves.normalized": "raw, baseline, full",
    "magnitude.align_density": (
        "fitted_density, sizes, insertion_curve, deletion_curve, points=None"
    ),
    "magnitude.aligned_difference": "insertion_curve, deletion_curve, density",
    "magnitude.blended_magnitudes": "sparse, gamma, kappa",
    "magnitude.dense_magnitudes": "sparse, kappa",
    "magnitude.density_of": "magnitudes, sizes",
    "magnitude.fit_density": "mean_curve, solver",
    "magnitude.mean_penalty": "insertion_curve, deletion_curve, density",
    "magnitude.mean_response": "insertion_curve, deletion_curve",
    "magnitude.relative_sizes": "sizes",
    "magnitude.resampled": "curve, n_features",
    "magnitude.solve_by_nnls": "mean_curve",
    "magnitude.solve_by_osqp": "mean_curve",
    "magnitude.sparse_magnitudes": "density_curve, sizes, rule",
    "magnitude.strictly_decreasing": "values",
    "ordering.AutoOrdering": "",
    "ordering.FastOrdering": (
        "window=None, forwards_per_feature=None, deletion_checks=None, "
        "quiet_level=0.01, oldest_share=0.3, patience=None"
    ),
    "ordering.JointOrdering": "forwards_per_feature=25.0, rounds=4, searches=None",
    "ordering.PaperOrdering": "window=None",
    "ordering.RefinedOrdering": "ordering, passes=8",
    "ordering.RelaxedOrdering": "ordering=None, steps=40",
    "ordering.Screening": "precision=None, of_probabilities=False",
    "ordering.complete": "task, result",
    "ordering.expected_forwards": "ordering, n_features, has_seed",
    "ordering.forwards_of_paper": "ordering, n_features",
    "ordering.measure_end_points": "responses",
    "ordering.order_examples": "task, ordering",
    "ordering.ordering_name": "ordering",
    "ordering.require_inputs_for": "ordering, inputs",
    "ordering.resolved": "ordering, task",
    "ordering.seed_scores": "seed, features",
    "perturbation.Response": (
        "forward_func, n_examples, target=None, additional_forward_args=None, "
        "score='softmax', rows_per_forward=None, progress=None, "
        "rows_argument='perturbations_per_eval'"
    ),
    "perturbation.SubsetResponses": "response, inputs, baselines, features",
    "perturbation.Sweep": "paths",
    "perturbation.format_baselines": "inputs, baselines, name='baselines'",
    "perturbation.validate_inputs": "inputs",
    "vit.AttentionCapture": "",
    "vit.BiasCapture": "",
    "vit.ConstantParameters": "dtype=None",
    "vit.TokenStream": "adapter, inputs, *arguments, places=()",
    "vit.check_adapter": "adapter, attention=True",
    "vit.eager_execution": "model",
    "vit.find_adapter": "model, adapter=None",
    "vit.gradients_enabled": "",
    "vit.observe": (
        "adapter, inputs, *arguments, attention=True, first_block=0, biases=None"
    ),
    "vit.paint": "grids, size, mode, layout=None",
    "vit.patch_numbers": "grid, size, layout",
    "vit.resolve": "model, adapter=None",
}
"""Path below captum_mda -> parameters of a function, a constructor or a method."""

RECORDS: dict[str, str] = {
    "MDAExplanation": (
        "order, n_inserted, insertion_curve, deletion_curve, mean_curve, "
        "density_curve, insertion_responses, deletion_responses, forwards, "
        "degenerate, features, magnitude='reference', dtype=torch.float32, "
        "is_tuple=False, precision=None, forwards_bf16=None, margin=None, "
        "provenance=..."
    ),
    "attr.Completeness": "score, total, error",
    "metrics.MaskedHits": "fractions, hits, status, target_predicted",
    "metrics.Metric": (
        "name, heading, higher_is_better, range, meaning, run, result=None, needs=None"
    ),
    "metrics.PerturbationScores": (
        "insertion, deletion, insertion_deletion, mas_insertion, mas_deletion, "
        "mas_insertion_deletion, insertion_curve, deletion_curve, "
        "least_first_curve=None"
    ),
    "metrics.ResponseCurve": "raw, response, density, penalty, mas, mode, status=()",
    "metrics.SegmentationScores": (
        "iou, average_precision, f1, pixel_accuracy, intersection, union, pixels, "
        "status"
    ),
    "metrics.TokenDeletion": (
        "fractions, probabilities, hits, full_probability, removal, status, "
        "target_predicted"
    ),
    "metrics.statistics.Comparison": (
        "method, reference, difference, p_value, adjusted_p_value, effect_size, n, "
        "n_nonzero, n_comparisons, smallest_p_value, higher_is_better, metric=None"
    ),
    "metrics.statistics.MeanInterval": (
        "mean, low, high, n, n_missing, confidence, method"
    ),
    "demo.DemoSamples": "images, labels, masks",
    "ordering.EndPoints": "full, insertion_baseline, deletion_baseline",
    "ordering.SearchResult": "order, n_inserted, insertion, deletion",
    "ordering.SearchTask": "responses, end_points, examples, seed, tau, screenings",
    "perturbation.Features": "masks, n_features, shapes",
    "perturbation.Path": "ranking, deletes, kind=0",
    "perturbation.Ranking": "order, counts",
    "vit.AttentionRecord": (
        "probabilities, values=None, folded=False, by_exponential=False"
    ),
    "vit.Observation": "outputs, tokens=..., attention=..., pooler=None",
    "vit.PatchLayout": "stride, size=None, offset=(0.0, 0.0)",
    "vit.ViTAdapter": (
        "model, blocks, n_prefix_tokens, pooling, tail, patch_grid, "
        "output_projection, feature_layer, class_index=None, "
        "distillation_index=None, pools_prefix=False, example_size=(3, 224, 224), "
        "select_output=None, patch_layout=None, patch_order='rows', planes=False"
    ),
}
"""Path below captum_mda -> fields of a record, which keywords set."""

PROPERTIES: dict[str, str] = {
    "FullGradPlus": "multiplies_by_inputs",
    "MDAExplanation": "n_forwards",
    "TokenInputXGradient": "multiplies_by_inputs",
    "metrics.MaskedHits": "area",
    "metrics.Metric": "arrow direction head",
    "metrics.PerturbationScores": "aopc monotonicity status symmetric_relevance_gain",
    "metrics.ResponseCurve": "aopc area mas_area monotonicity raw_area",
    "metrics.SegmentationScores": "correct mean_iou",
    "metrics.TokenDeletion": "accuracy aopc",
    "metrics.statistics.Comparison": "distinguishable interval_agrees outcome verdict",
}
"""Path below captum_mda -> what its objects say of themselves."""
