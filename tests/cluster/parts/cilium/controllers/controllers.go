// Package controllers has what Cilium uses of sigs.k8s.io/mcs-api/controllers, a module that is not available everywhere.
package controllers

// DerivedServiceAnnotation is the annotation of a ServiceImport that names the Service derived from it.
const DerivedServiceAnnotation = "multicluster.kubernetes.io/derived-service"
